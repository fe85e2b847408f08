"""Write docs/reference/commands.md from the commands' own help: python -m docs.tools.commands"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import django
from django.core.management import get_commands, load_command_class
from django.core.management.base import DjangoHelpFormatter

PAGE = Path(__file__).resolve().parents[1] / "reference" / "commands.md"
COMMANDS = {
    "Releasing": [
        *("validate_local", "finalize_pr", "deploy_with_confidence", "monitor_deployment"),
        *("verify_rollback", "revert_deployment"),
    ],
    "Rollouts": ["rollout", "check_rollouts", "simulate_rollout", "demo_rollout", "send_test_alert"],
    "Funds": ["create_token", "purge_idempotency_keys"],
    "Backup": ["backup", "restore", "check_consistency"],
    "Deployment": ["grant_database_roles", "remove_two_factor"],
}
INTRODUCTION = """\
# Commands

Every command is `manage.py COMMAND`. This page is generated from the output of `--help`, by
`.venv/bin/python -m docs.tools.commands`.

`manage.py` stands for `.venv/bin/python manage.py` in the project's directory, and for `python manage.py` in the image.
Without `DATABASE_URL` it works on the database of `make run` in `FUNDAPI_HOME` (`.fundapi`). When nothing serves that
home, the command starts the database for itself, and says so on stderr.

A wrong setting, a database that is away, not migrated or read-only, a full disk and a home that cannot be used are one
sentence on stderr; `--traceback` shows more.

| exit code | means | of the release commands |
|---|---|---|
| 0 | done | healthy |
| 1 | refused, or failed | rolled back or unhealthy |
| 2 | wrong arguments or settings | could not tell, as of `check_rollouts`, `simulate_rollout` and `check_consistency` |
| 130 | interrupted | interrupted |

A `rollout stop` that did not stop prints `NOT STOPPED`, and exits with 2.
"""


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of one of our commands."""
    parser: argparse.ArgumentParser = load_command_class(get_commands()[command], command).create_parser(
        "manage.py", command
    )
    return parser


def described(parser: argparse.ArgumentParser, name: str, depth: int) -> Iterator[str]:
    """Yield the lines about a command, and about its actions."""
    actions = [
        action
        for action in parser._actions  # noqa: SLF001 - argparse shows them to nobody
        if action.help != argparse.SUPPRESS
        and not set(action.option_strings) & {"-h", "--help", *DjangoHelpFormatter.show_last}
    ]
    yield f"\n{'#' * depth} {name}\n"
    if parser.description:
        yield parser.description + "\n"
    plain = [action for action in actions if not isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001 - the same
    if plain:
        yield "| argument | what |\n|---|---|"
    for action in plain:
        yield f"| `{_spelled(action)}` | {_said(action)} |"
    for group in actions:
        if isinstance(group, argparse._SubParsersAction):  # noqa: SLF001 - the same
            helps = {choice.dest: choice.help for choice in group._choices_actions}  # noqa: SLF001 - the same
            for choice, sub in group.choices.items():
                yield from described(sub, f"{name} {choice}", depth + 1)
                if not sub.description and helps.get(choice):
                    yield f"\n{helps[choice]}"


def _spelled(action: argparse.Action) -> str:
    metavar = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    shown = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    if not action.option_strings:
        return f"[{shown}]" if action.nargs in {"?", "*"} else shown
    return ", ".join(f"{option} {shown}".strip() for option in action.option_strings)


def _said(action: argparse.Action) -> str:
    text = " ".join((action.help or "").split()) % {"default": action.default, "prog": "manage.py"}
    return text.replace("|", "\\|")


def page() -> str:
    """Return the text of the page."""
    parts = [INTRODUCTION]
    for title, commands in COMMANDS.items():
        parts.append(f"\n## {title}")
        parts += [line for command in commands for line in described(parser_of(command), command, 3)]
    return "\n".join(parts) + "\n"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fundapi.settings")
    os.environ.setdefault("SECRET_KEY", "not-used")
    django.setup()
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
