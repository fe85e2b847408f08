"""The project's settings, on the checkout of a test: for commands that run as a process of their own."""

import os
from pathlib import Path

from fundapi.settings import *  # noqa: F403

ROLLOUT_PROJECT_DIRECTORY = Path(os.environ["TEST_CHECKOUT"])
