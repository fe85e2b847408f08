"""Authentication: ``tokens`` and ``authentication`` (bearer), ``signins`` (lock-outs), ``second_factor`` (TOTP)."""
