"""The judge's decisions. Pure: no Django, no clock, no I/O.

``policy`` (every threshold), ``scoring`` (points and signals), ``statistics`` (sequential tests), ``evidence`` (what a
window of telemetry holds, counted by client) and ``decision`` (:func:`~rollout.judge.decision.decide`).

Import from the modules: this one stays empty, because ``statistics`` loads scipy, which web workers do without.
"""
