"""``manage.py`` as an operator and CI use it."""

import subprocess
import sys

import pytest

from tests.servers import PROJECT, manage

PRODUCTION = {
    "TRUSTED_PROXIES": "1",
    "HTTPS": "true",
    "DEBUG": "false",
    "ALLOWED_HOSTS": "funds.example",
    "CSRF_TRUSTED_ORIGINS": "https://funds.example",
    "ENVIRONMENT": "prod",
    "DJANGO_ALLOW_ASYNC_UNSAFE": "",  # set by browser tests of the same process
}


def test_the_production_settings_pass_every_check(database: None) -> None:
    run = manage("check", "--deploy", "--fail-level", "WARNING", "--database", "default", **PRODUCTION)
    assert run.returncode == 0, run.stderr
    assert "no issues" in run.stdout


def test_no_model_has_changed_without_a_migration(database: None) -> None:
    run = manage("makemigrations", "--check", "--dry-run")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("environment", ["two words", "a|b", "a" * 101])
def test_an_environment_that_cannot_be_part_of_a_key_is_refused_at_start(
    database: None, environment: str
) -> None:
    run = manage("check", ENVIRONMENT=environment)
    assert run.returncode == 2
    assert run.stderr.startswith("ENVIRONMENT is '")
    assert len(run.stderr.splitlines()) == 1


def test_the_purge_command_answers_on_stdout_alone(database: None) -> None:
    run = manage("purge_idempotency_keys", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("expired keys would be deleted.\n")
    assert len(run.stdout.splitlines()) == 1


def test_an_argument_that_is_not_utf_8_is_refused_in_one_sentence(database: None) -> None:
    run = manage("rollout", "status", "USE_FUND_\udcff")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "manage.py: 'USE_FUND_\\udcff' is not UTF-8, as every name here is.\n"


@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        (
            "</dev/null >/dev/full",
            1,
            "manage.py: cannot write the output or a file: No space left on device\n",
        ),
    ],
)
def test_an_output_that_takes_nothing_is_no_traceback(redirection: str, code: int, says: str) -> None:
    command = ["sh", "-c", f'exec "$0" manage.py version {redirection}', sys.executable]
    run = subprocess.run(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, check=False)
    assert (run.returncode, run.stderr) == (code, says)
