"""The release commands: from a pull request to a healthy rollout, or back (runbook, "Deployment Process").

One module a command: ``validate``, ``finalize``, ``deploy``, ``monitor``, ``verify``, ``revert``. They share ``shell``
(options, exit codes), ``terminal`` (output, dry run), ``records`` (deployments) and ``errors``. Their decisions are in
:mod:`~rollout.release.decisions`. Only :mod:`~rollout.release.github` talks to GitHub, and only
:mod:`~rollout.release.git` runs git. Only management commands import this package; web workers never do.
"""
