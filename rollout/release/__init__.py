"""The release commands: from a pull request to a healthy rollout, or back (runbook, "Deployment Process").

What they decide is in :mod:`~rollout.release.decisions`; GitHub is spoken to in :mod:`~rollout.release.github` alone,
git in :mod:`~rollout.release.git` alone. Only management commands import this package; web workers never do.
"""
