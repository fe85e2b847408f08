from collections.abc import Iterator

import pytest

from tests.servers import Server
from tests.traffic import Judged, judged_rollouts


@pytest.fixture
def traffic(server: Server) -> Iterator[Judged]:
    """Make a rollout that is judged, with browsers that report about it."""
    with judged_rollouts(server) as make:
        yield make
