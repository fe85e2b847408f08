"""The judge's decisions. Pure: no Django, no clock, no I/O.

``policy`` (every threshold), ``scoring`` (points and signals), ``statistics`` (sequential tests), ``evidence`` (a window
of telemetry, counted by client), ``decision`` (:func:`~rollout.judge.decision.decide`), ``timeline`` (when to promote),
``wording`` (reasons in sentences). Import from the modules: this one stays empty, because ``statistics`` loads scipy.
"""
