"""Every request's path: ``serve`` (Granian), ``overload`` (queue), ``middleware``, ``problems`` (errors), ``health``.

Also ``logs`` and ``cache``. ``settings`` imports ``serve`` and ``logs`` before Django is set up: this one stays empty.
"""
