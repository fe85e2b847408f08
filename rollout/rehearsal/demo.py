"""A demonstration: simulated browsers in front of the running server.

They read ``GET /api/rollouts`` and send ``POST /api/telemetry``, as real ones do, and nothing else. Their behaviour is
that of a scenario.
"""

import time
from collections import defaultdict
from typing import Any, Self
from uuid import UUID

import httpx

from rollout.configuration import Configuration
from rollout.evaluation import Config
from rollout.rehearsal.scenario import Conditions
from rollout.rehearsal.traffic import Browsers
from rollout.store import Arrival

TIMEOUT = 10  # s


class DemoError(Exception):
    """A demonstration that cannot go on. The message says why and what to do."""


class Crowd:
    """The browsers of a feature, in front of the server at ``url``."""

    def __init__(self, url: str, feature: str, *, variant: str) -> None:
        self.url = url
        self.feature = feature
        self.clients = 0  # with telemetry, in the latest minute
        self._browsers = Browsers(feature, variant=variant, seed=1)
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def rollouts(self) -> dict[str, Config]:
        """Return the configuration that browsers read. Raises :class:`DemoError` when there is none."""
        try:
            return Configuration(self._request("GET", "/api/rollouts").content).by_feature
        except (ValueError, KeyError, TypeError):
            raise DemoError(f"{self.url} is another server: name this project's with --url.") from None

    def config(self) -> Config:
        """Return the configuration of the feature. Raises :class:`DemoError` when the server does not know it."""
        rollouts = self.rollouts()
        if self.feature not in rollouts:
            raise DemoError(
                f"{self.url} works on another database than this command: set the same DATABASE_URL or FUNDAPI_HOME."
            )
        return rollouts[self.feature]

    def minute(self, conditions: Conditions, *, seconds: float) -> None:
        """Send a simulated minute, spread over ``seconds``."""
        sessions: defaultdict[tuple[UUID, UUID], list[Arrival]] = defaultdict(list)
        for arrival in self._browsers.minute(conditions, self.config()):
            sessions[arrival.client, arrival.session].append(arrival)
        self.clients = len({client for client, _ in sessions})
        began = time.monotonic()
        for number, ((client, session), events) in enumerate(sessions.items(), start=1):
            batch = {"clientId": str(client), "sessionId": str(session), "events": [*map(as_json, events)]}
            self._request("POST", "/api/telemetry", json=batch)
            time.sleep(max(0, began + seconds * number / len(sessions) - time.monotonic()))

    def _request(self, method: str, path: str, **body: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **body).raise_for_status()
        except httpx.HTTPStatusError as error:
            raise DemoError(
                f"{self.url}{path} answered {error.response.status_code}: the log of the server says why."
            ) from None
        except httpx.HTTPError:
            raise DemoError(
                f"{self.url} does not answer: start it with `make run`, or name its address with --url."
            ) from None


def as_json(arrival: Arrival) -> dict[str, Any]:
    """Return an event as browsers send it."""
    names = {"flag": arrival.flag, "variant": arrival.variant}
    return {"id": arrival.id, "event": arrival.event, "ok": arrival.ok} | {
        name: value for name, value in names.items() if value is not None
    }
