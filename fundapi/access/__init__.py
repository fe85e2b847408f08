"""Who is calling: ``tokens`` and ``authentication`` (bearers), ``signins`` (lock-outs), ``second_factor`` (TOTP)."""
