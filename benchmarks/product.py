"""Requests of the product beside creates and replays, as variants: a poll, an evaluation, a batch of telemetry."""

from benchmarks.bodies import EVENTS, telemetry_batches
from benchmarks.load import ask, request
from benchmarks.rounds import CONNECTIONS, Variant, repeating, sending
from benchmarks.servers import Server

FLAG = "USE_FUND_STORE"
OFREP_BODY = b'{"context": {"targetingKey": "2f0f8a76-6f1b-4d53-9a36-6c1f2d4a9b1c"}}'


def variants(server: Server) -> list[Variant]:
    tag = ask(server.port, request("GET", "/api/rollouts")).header("ETag") or ""
    polled = request("GET", "/api/rollouts", headers=[("If-None-Match", tag)])
    evaluated = request("POST", f"/ofrep/v1/evaluate/flags/{FLAG}", body=OFREP_BODY)
    batches = [map(_telemetry, telemetry_batches()) for _ in range(CONNECTIONS)]
    return [
        Variant("poll", "GET /api/rollouts, not modified", repeating(server, polled, expected=304)),
        Variant("ofrep", "OFREP evaluation of one flag", repeating(server, evaluated, expected=200)),
        Variant("telemetry", f"{EVENTS} new events in a batch", sending(server, batches, expected=202)),
    ]


def _telemetry(body: bytes) -> bytes:
    return request("POST", "/api/telemetry", body=body)
