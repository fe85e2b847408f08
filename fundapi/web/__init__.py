"""Every request's path: ``serve`` (Granian), ``overload`` (queue), ``middleware``, ``problems`` (errors), ``health``.

Also ``logs``, ``cache``, and ``light`` (what a worker does not import). ``settings`` imports ``serve`` and ``logs``
before Django is set up: this module stays empty.
"""
