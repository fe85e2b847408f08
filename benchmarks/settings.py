"""The product's own settings, with the variants to compare beside its addresses."""

from fundapi.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.urls"
FUND_CREATE_RATE = "1000000000/minute"  # counted like any other, and never reached
