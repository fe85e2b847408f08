"""Use a running fundapi as clients, browsers and operators do, and print what it answered.

The fixtures beside this file are of 6ade8de, the last version before the rooms: its ``make run`` with
``IDEMPOTENCY_TTL=3153600000 ROLLOUT_CHECK_INTERVAL=5 ROLLOUT_WEBHOOK_URL=... ROLLOUT_WEBHOOK_SECRET=...``, then in its
checkout ``.venv/bin/python .../use.py http://127.0.0.1:8000 >answers.json`` and ``pg_dump --no-owner --no-privileges``.
"""

import json
import os
import re
import subprocess
import sys
import time
import uuid
from typing import Any

import httpx

FEATURE = "USE_FUND_STORE"
FUNDS = [
    ("bare-key", '{"name": "Harbor Growth I", "size": 250000000, "vintageYear": 2025}'),
    ('"quoted-key"', '{"size": 90071992547409.93, "name": "Exact Ünïcode II", "vintageYear": 2024}'),
    (
        "dev|fund-create|namespaced",
        '{"name": "N III", "size": 0, "managementFee": 0.017500, "vintageYear": 2030}',
    ),
    (
        "with-results",
        '{"name": "R IV", "size": 1, "vintageYear": 2026, "engineResults": {"irr": 0.1000, "n": [1e3, null]}}',
    ),
]


def manage(*arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def create_funds(http: httpx.Client, token: str) -> list[dict[str, Any]]:
    """Create each fund, replay it, and refuse another body under the first key."""
    found = []
    for key, body in FUNDS:
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
        }
        created = http.post("/api/funds", content=body, headers=headers)
        replayed = http.post("/api/funds", content=body, headers=headers)
        assert (created.status_code, replayed.status_code) == (201, 200), (created.text, replayed.text)
        assert created.text == replayed.text
        found.append(
            {"key": key, "sent": body, "body": replayed.text, "location": replayed.headers["Location"]}
        )
    other = http.post("/api/funds", content=body, headers=headers | {"Idempotency-Key": FUNDS[0][0]})
    assert other.status_code == 409, other.text
    return found


def sign_in(http: httpx.Client) -> None:
    page = http.get("/admin/login/")
    form = {"username": "admin", "password": os.environ["DJANGO_SUPERUSER_PASSWORD"]}
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token is not None
    answer = http.post("/admin/login/", data=form | {"csrfmiddlewaretoken": token[1]})
    assert answer.status_code == 302, answer.text


def report(http: httpx.Client, *events: str, clients: int, variant: str = "fund-store") -> None:
    for _ in range(clients):
        events_sent = [
            {"id": str(uuid.uuid4()), "event": name, "flag": FEATURE, "variant": variant}
            | ({"detail": "quota <b>exceeded</b>"} if name.endswith("failed") else {})
            for name in ("heartbeat", *events)
        ]
        batch = {"clientId": str(uuid.uuid4()), "sessionId": str(uuid.uuid4()), "events": events_sent}
        assert http.post("/api/telemetry", json=batch).status_code == 202


def roll_out(http: httpx.Client) -> None:
    """Start a rollout, let the judge see it healthy, then broken, then start it again."""
    manage("rollout", "set", FEATURE, "10", "--reason", "canary")
    report(http, "migration_succeeded", clients=20)
    report(http, clients=180, variant="legacy")
    time.sleep(6)
    while http.get("/health").json()["store_type"] != "legacy":
        report(http, "migration_failed", clients=4)
        time.sleep(3)
    manage("rollout", "resume", FEATURE, "--reason", "mended")
    manage("rollout", "set", FEATURE, "10", "--reason", "once more")
    for _ in range(2):
        report(http, "migration_succeeded", "console_warning", clients=12)
        time.sleep(6)


if __name__ == "__main__":
    with httpx.Client(base_url=sys.argv[1], timeout=30) as client:
        bearer = manage("create_token", "alice", "--create", "--days", "36500").splitlines()[-1]
        answers = {
            "token": bearer,
            "password": os.environ["DJANGO_SUPERUSER_PASSWORD"],
            "funds": create_funds(client, bearer),
        }
        sign_in(client)
        roll_out(client)
        answers["rollouts"] = client.get("/api/rollouts").json()
    sys.stdout.write(json.dumps(answers, indent=2, ensure_ascii=False) + "\n")
