"""The judge's decisions. Pure: no Django, no clock, no I/O.

``policy`` (every threshold), ``events`` (their names), ``scoring`` (points and signals), ``statistics`` (sequential
tests), ``evidence`` (telemetry of a window, counted by voice), ``state`` (a rollout and the memory of its stage),
``cells`` (the table of signals), ``timeline`` (the next action), ``wording`` (texts) and ``decision``
(:func:`~rollout.judge.decision.decide`).

Import from the modules: this one stays empty because ``statistics`` loads scipy, which web workers do without.
"""
