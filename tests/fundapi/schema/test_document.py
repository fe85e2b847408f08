"""``/api/schema`` matches the responses of a running server."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest
from django.contrib.auth.models import User
from django.db import connection
from drf_spectacular.generators import SchemaGenerator

from fundapi.web.problems import CATALOGUE
from idempotency import keys
from tests.answers import assert_problem
from tests.conftest import FUND, Api, token_of
from tests.fundapi.keys import being_processed
from tests.servers import PROJECT, Server, running_server

Schema = dict[str, Any]


@pytest.fixture(scope="module")
def schema(server: Server) -> Schema:
    """The document as a client gets it."""
    answer = httpx.get(f"{server.url}/api/schema", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    document: Schema = exact(answer.text)
    return document


def exact(text: str) -> Any:
    """Read JSON with exact numbers: of doubles, 0.0175 is no multiple of 0.000001."""
    return json.loads(text, parse_float=Decimal)


def operation(schema: Schema, answer: httpx.Response) -> Schema:
    path = answer.request.url.path
    template = path if path in schema["paths"] else "/api/funds/{id}"
    method = answer.request.method.lower()
    operations: Schema = schema["paths"][template]
    return dict(operations.get(method) or next(iter(operations.values())))  # of a method that is not there


def resolve(schema: Schema, node: Schema) -> Schema:
    return {
        **node,
        "components": schema["components"],
        "$schema": jsonschema.Draft202012Validator.META_SCHEMA["$id"],
    }


def assert_documented(schema: Schema, answer: httpx.Response) -> None:
    """Check status, content type, body and headers of ``answer`` against the document."""
    documented = operation(schema, answer)["responses"][str(answer.status_code)]
    content = documented["content"][answer.headers["Content-Type"]]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(resolve(schema, content["schema"]), format_checker=checker).validate(
        exact(answer.text)
    )
    ours = {
        "idempotency-key", "idempotency-status", "preference-applied", "location", "retry-after", "x-request-id",
        "www-authenticate", "allow",
    }  # fmt: skip
    described = {name.lower(): header for name, header in documented["headers"].items()}
    assert answer.headers.keys() & ours <= described.keys()
    for name in answer.headers.keys() & described.keys():
        value = answer.headers[name]
        of_type = int(value) if described[name]["schema"]["type"] == "integer" else value
        jsonschema.validate(of_type, described[name]["schema"])


def code(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


# --- The document itself ------------------------------------------------------------------------------------------


def test_the_document_is_made_without_a_warning_and_without_services(tmp_path: Any) -> None:
    command = [sys.executable, "manage.py", "spectacular", "--validate", "--fail-on-warn"]
    unset = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["FUNDAPI_HOME"] = str(tmp_path / "none")
    made = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout.startswith("openapi: 3.1")
    assert not (tmp_path / "none").exists()


def test_every_problem_code_is_documented(schema: Schema) -> None:
    assert schema["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(CATALOGUE)
    shown = {
        example["value"]["code"]
        for path in ("/api/funds", "/api/funds/{id}")
        for documented in schema["paths"][path].values()
        for answer in documented["responses"].values()
        for example in answer["content"].get("application/problem+json", {}).get("examples", {}).values()
    }
    assert shown == set(CATALOGUE)
    assert all(f"`{known}`" in schema["info"]["description"] for known in CATALOGUE)


def test_every_example_is_valid(schema: Schema) -> None:
    for path in ("/api/funds", "/api/funds/{id}"):
        for documented in schema["paths"][path].values():
            bodies = [*documented["responses"].values(), documented.get("requestBody", {"content": {}})]
            for content in (content for body in bodies for content in body["content"].values()):
                for example in content.get("examples", {}).values():
                    jsonschema.validate(example["value"], resolve(schema, content["schema"]))


def test_the_three_forms_of_a_key_are_shown(schema: Schema) -> None:
    parameters = {
        parameter["name"]: parameter for parameter in schema["paths"]["/api/funds"]["post"]["parameters"]
    }
    assert parameters["Idempotency-Key"]["required"] is True
    forms = [example["value"] for example in parameters["Idempotency-Key"]["examples"].values()]
    tokens = {keys.parse(form, environment="test", operation="fund-create") for form in forms}
    assert len(forms) == 3
    assert len(tokens) == 1
    assert {"Prefer", "Rollout-Variant"} <= parameters.keys()


def test_creating_takes_a_token_or_a_session(schema: Schema) -> None:
    assert schema["paths"]["/api/funds"]["post"]["security"] == [{"bearer": []}, {"session": []}]
    schemes = schema["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["session"]["in"], schemes["session"]["name"]) == ("cookie", "sessionid")


BAD_FUNDS = [
    {"name": ""},
    {"size": -1},
    {"size": "250"},
    {"size": 10**18},
    {"managementFee": 0.11},
    {"managementFee": 0.0175001},
    {"size": 0.295},
    {"carryPercentage": 0.51},
    {"vintageYear": 1999},
    {"vintageYear": 2025.5},
    {"modelVersion": "x" * 51},
    {"engineResults": []},
    {"colour": "blue"},
]


@pytest.mark.parametrize("wrong", BAD_FUNDS, ids=str)
def test_document_and_server_refuse_the_same_bodies(schema: Schema, api: Api, wrong: Schema) -> None:
    body = exact(json.dumps({**FUND, **wrong}))
    new_fund = schema["paths"]["/api/funds"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(body, resolve(schema, new_fund))
    assert api.create(body={**FUND, **wrong}).status_code == 400


def test_document_and_server_take_the_same_bodies(schema: Schema, api: Api) -> None:
    new_fund = schema["paths"]["/api/funds"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    edges: list[Schema] = [
        FUND,
        {"name": "x", "size": 0, "managementFee": 0, "carryPercentage": 0, "vintageYear": 2000},
        {"name": "x", "size": Decimal("0.29"), "managementFee": Decimal("0.017501")},
        {
            **FUND,
            "size": 999_999_999_999_999_999,
            "managementFee": Decimal("0.1"),
            "carryPercentage": Decimal("0.5"),
            "vintageYear": 2100,
        },
        {**FUND, "modelVersion": None, "engineResults": None},
        {**FUND, "modelVersion": "", "engineResults": {"irr": 0.2}},
    ]
    for body in edges:
        jsonschema.validate(body, resolve(schema, new_fund))
        assert api.create(body=json.dumps(body, default=float)).status_code == 201


# --- Real answers -------------------------------------------------------------------------------------------------


def test_created_and_replayed_are_as_documented(schema: Schema, api: Api, key: str) -> None:
    first, again = api.create(key), api.create(key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert_documented(schema, first)
    assert_documented(schema, again)


def test_reading_is_as_documented(schema: Schema, api: Api) -> None:
    fund = api.create(body={**FUND, "engineResults": {"irr": 0.2}}).json()
    api.create()
    pages = [api.get("/api/funds"), api.get("/api/funds?pageSize=1"), api.get(f"/api/funds/{fund['id']}")]
    assert [page.status_code for page in pages] == [200, 200, 200]
    for page in pages:
        assert_documented(schema, page)


def test_both_conflicts_are_as_documented(schema: Schema, api: Api, user: User, key: str) -> None:
    api.create(key)
    reused = api.create(key, {**FUND, "size": 1})
    assert code(reused) == "idempotency_key_reused"
    assert_documented(schema, reused)
    running = uuid.uuid4().hex
    with being_processed(user, running):
        waited = api.create(running, Prefer="wait=1")
    assert code(waited) == "idempotency_request_in_progress"
    assert waited.headers["Preference-Applied"] == "wait=1"
    assert_documented(schema, waited)


JSON = {"Content-Type": "application/json"}
REFUSED: dict[str, Callable[[Api], httpx.Response]] = {
    "idempotency_key_missing": lambda api: api.post("/api/funds", json=FUND),
    "idempotency_key_invalid": lambda api: api.create("a b"),
    "idempotency_key_environment_mismatch": lambda api: api.create("elsewhere|fund-create|1"),
    "idempotency_key_operation_mismatch": lambda api: api.create("test|fund-delete|1"),
    "parse_error": lambda api: api.create(body=b'{"name": "x", "name": "y"}'),
    "validation_error": lambda api: api.create(body={"name": ""}),
    "authentication_failed": lambda api: api.create(Authorization="Bearer wrong"),
    "not_found": lambda api: api.get("/api/funds/9223372036854775807"),
    "method_not_allowed": lambda api: api.delete("/api/funds"),
    "not_acceptable": lambda api: api.get("/api/funds", headers={"Accept": "text/html"}),
    "body_too_large": lambda api: api.create(body=b" " * (256 * 1024 + 1)),
    "unsupported_media_type": lambda api: api.create(body=b"name=x", **{"Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("problem", REFUSED)
def test_a_refusal_is_as_documented(schema: Schema, api: Api, problem: str) -> None:
    answer = REFUSED[problem](api)
    assert code(answer) == problem
    assert_documented(schema, answer)


def test_a_wrong_cursor_is_as_documented(schema: Schema, api: Api) -> None:
    assert_documented(schema, api.get("/api/funds?cursor=wrong"))


def test_no_credentials_and_no_permission_are_as_documented(
    schema: Schema, server: Server, make_user: Callable[..., User]
) -> None:
    with Api(server) as nobody, Api(server, make_user(may_create=False)) as reader:
        answers = [nobody.create(), nobody.get("/api/funds"), reader.create()]
    assert [code(answer) for answer in answers] == [
        "not_authenticated",
        "not_authenticated",
        "permission_denied",
    ]
    for answer in answers:
        assert_documented(schema, answer)


def test_a_throttled_request_is_as_documented(schema: Schema, user: User) -> None:
    with running_server(workers=1, FUND_CREATE_RATE="1/hour") as strict, Api(strict, user) as api:
        api.create()
        throttled = api.create()
    assert code(throttled) == "throttled"
    assert_documented(schema, throttled)


def test_a_lost_database_is_as_documented(schema: Schema, user: User) -> None:
    token = token_of(user)
    nowhere = "postgres://nobody@/nothing?host=/nonexistent"
    with (
        running_server(workers=1, DATABASE_URL=nowhere) as lost,
        httpx.Client(base_url=lost.url, timeout=30) as client,
    ):
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "1"}
        answers = [
            client.get("/api/funds", headers=headers),
            client.post("/api/funds", json=FUND, headers=headers),
        ]
    for answer in answers:
        assert code(answer) == "database_unavailable"
        assert_documented(schema, answer)


@pytest.fixture
def failing_name(database: None) -> Iterator[str]:
    """A fund name for which the database raises an unexpected error."""
    name = f"fails-{uuid.uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION fail_on_purpose() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'on purpose'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER fail_on_purpose BEFORE INSERT ON fundapi_fund FOR EACH ROW "
            f"WHEN (NEW.name = '{name}') EXECUTE FUNCTION fail_on_purpose()"
        )
        yield name
        cursor.execute("DROP FUNCTION fail_on_purpose CASCADE")


def test_a_fault_of_the_server_is_as_documented(schema: Schema, api: Api, failing_name: str) -> None:
    answer = api.create(body={**FUND, "name": failing_name})
    assert code(answer) == "server_error"
    assert_documented(schema, answer)


# --- Serving it ---------------------------------------------------------------------------------------------------


def test_the_document_is_for_everybody(server: Server) -> None:
    headers = {"Authorization": "Bearer of-long-ago"}
    assert httpx.get(f"{server.url}/api/schema", headers=headers).status_code == 200
    page = httpx.get(f"{server.url}/api/docs", headers=headers)
    assert page.status_code == 200
    assert "http://" not in page.text.replace(server.url, "")
    assert "https://" not in page.text


KINDS = {
    "*/*": "application/vnd.oai.openapi; charset=utf-8",
    "application/yaml": "application/yaml; charset=utf-8",
    "application/vnd.oai.openapi": "application/vnd.oai.openapi; charset=utf-8",
    "application/vnd.oai.openapi+json": "application/vnd.oai.openapi+json",
    "application/json": "application/json",
}


def test_concurrent_first_requests_all_get_the_document(database: None) -> None:
    """24 at once: without the lock, 15 of them were 500 on a fresh process."""
    with running_server(workers=1, threads=8) as fresh, ThreadPoolExecutor(24) as pool:
        addresses = [("/api/schema", kind) for kind in KINDS] + [("/api/docs", "*/*")]
        asked = [pool.submit(fetch, fresh.url + path, kind) for path, kind in addresses * 4]
        answers = [each.result() for each in asked]
        assert [answer.status_code for answer in answers] == [200] * 24
        for kind, content_type in KINDS.items():
            (body,) = {
                answer.content
                for answer, (path, sent) in zip(answers, addresses * 4, strict=True)
                if path == "/api/schema" and sent == kind
            }
            again = fetch(f"{fresh.url}/api/schema", kind)
            assert (again.content, again.headers["Content-Type"]) == (body, content_type)


def fetch(address: str, accept: str) -> httpx.Response:
    return httpx.get(address, headers={"Accept": accept}, timeout=60)


def test_the_document_is_sent_once_to_a_client_that_keeps_it(server: Server) -> None:
    address = f"{server.url}/api/schema"
    tags = set()
    for kind in ("application/json", "application/yaml"):
        first = httpx.get(address, headers={"Accept": kind})
        tags.add(first.headers["ETag"])
        again = httpx.get(address, headers={"Accept": kind, "If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "Accept" in again.headers["Vary"]
        head = httpx.head(address, headers={"Accept": kind})
        assert (head.status_code, head.headers["ETag"]) == (200, first.headers["ETag"])
    assert len(tags) == 2


@pytest.mark.parametrize("path", ["/api/schema", "/api/docs"])
def test_errors_of_pages_that_are_no_json_are_problems_too(server: Server, path: str) -> None:
    assert_problem(httpx.get(server.url + path, headers={"Accept": "image/png"}), 406, "not_acceptable")
    assert_problem(httpx.request("TRACE", server.url + path), 405, "method_not_allowed")


def test_served_and_generated_documents_are_the_same(schema: Schema) -> None:
    generated = SchemaGenerator().get_schema(public=True)
    assert generated["paths"].keys() == schema["paths"].keys()


def test_telemetry_is_as_documented(schema: Schema, server: Server) -> None:
    documented = schema["paths"]["/api/telemetry"]["post"]
    (example,) = documented["requestBody"]["content"]["application/json"]["examples"].values()
    with httpx.Client(base_url=server.url, timeout=30) as browser:
        taken = browser.post("/api/telemetry", json=example["value"] | {"clientId": uuid.uuid4().hex})
        assert taken.status_code == 202
        refused = browser.post("/api/telemetry", json={"events": [{}] * 201})
        form = browser.post("/api/telemetry", data={"a": "b"})
        method = browser.get("/api/telemetry")
    for answer in (taken, refused, form, method):
        assert_documented(schema, answer)
    assert "security" not in documented or documented["security"] == [{}]


def test_a_ticket_is_as_documented(schema: Schema, api: Api, server: Server) -> None:
    documented = schema["paths"]["/api/telemetry/ticket"]["post"]
    assert documented["security"] == [{"bearer": []}, {"session": []}]
    with httpx.Client(base_url=server.url, timeout=30) as nobody:
        refused, method = nobody.post("/api/telemetry/ticket"), api.get("/api/telemetry/ticket")
        issued = api.post("/api/telemetry/ticket")
        batch = {"clientId": uuid.uuid4().hex, "sessionId": "1", "events": []}
        taken = nobody.post("/api/telemetry", json=batch | {"ticket": issued.json()["ticket"]})
        stale = nobody.post("/api/telemetry", json=batch | {"ticket": "stale"})
    assert [answer.status_code for answer in (issued, refused, method, taken, stale)] == [
        200,
        401,
        405,
        202,
        202,
    ]
    large = api.post("/api/telemetry/ticket", content=b" " * (256 * 1024 + 1))
    form = api.post("/api/telemetry/ticket", data={"a": "b"})
    assert [answer.status_code for answer in (large, form)] == [413, 200]
    for answer in (issued, refused, method, taken, stale, large, form):
        assert_documented(schema, answer)
