"""The product's own settings, with P1 beside its addresses."""

from fundapi.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
FUND_CREATE_RATE = "1000000000/minute"  # counted like any other, and never reached
TELEMETRY_RATE = FUND_CREATE_RATE
