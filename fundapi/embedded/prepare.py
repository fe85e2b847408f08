"""The first step of `make run`: collect static files, migrate, make an admin user and a demo token.

Prints user and token as one JSON object.

    python -m fundapi.embedded.prepare

This is a process of its own, so that the process manager stays small and holds no connection.
"""

import io
import json
import sys

import django
from django.contrib.auth import get_user_model
from django.core.checks import Tags, run_checks
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, InterfaceError

from fundapi.embedded import assets
from fundapi.embedded.home import TOLD, EmbeddedError, Home, in_words
from fundapi.variables import Variables, exit_in_one_sentence, name_settings, wrong
from rollout import faults


def migrate() -> None:
    call_command("migrate", interactive=False, verbosity=0, stdout=sys.stderr)
    for message in run_checks(tags=[Tags.database], databases=["default"]):
        print(f"Warning: {message.msg}. {message.hint}", file=sys.stderr)


def admin(home: Home, username: str, email: str, given: str) -> tuple[str, str | None]:
    """Make the admin user where there is none; return its name, and its password if known.

    DJANGO_SUPERUSER_USERNAME and DJANGO_SUPERUSER_PASSWORD always apply. Without the latter, a password is
    made once and kept in the home; a password that the user has changed since is left alone.
    """
    password = given or home.secret("admin-password", size=12)
    users = get_user_model().objects
    user = users.filter(username=username).first()
    if user is None:
        users.create_superuser(username, email, password)
        return username, password
    if not user.check_password(password):
        if not given:
            return username, None
        user.set_password(password)
        user.save(update_fields=["password"])
    return username, password


def field_value(env: Variables, field: str, default: str) -> str:
    """Return what the variable of a user's field says, if the field can hold it. Raises ImproperlyConfigured."""
    name = f"DJANGO_SUPERUSER_{field.upper()}"
    text = env.given(name) or default
    column = getattr(get_user_model(), field).field
    try:
        column.run_validators(text)
    except ValidationError as error:
        raise wrong(name, text, f"the {field} of a user ({' '.join(error.messages)})") from None
    return text


def demo_token(home: Home) -> str:
    """Return the token of user `demo` kept in the home, or a new one when that no longer works."""
    # Not at the top: these have models, which exist only after django.setup().
    from rest_framework.exceptions import AuthenticationFailed  # noqa: PLC0415

    from fundapi.access.authentication import BearerAuthentication  # noqa: PLC0415

    kept = home.read("demo-token")
    try:
        if kept and BearerAuthentication().authenticate_credentials(kept.encode()):
            return kept
    except AuthenticationFailed:
        pass
    output = io.StringIO()
    call_command("create_token", "demo", create=True, stdout=output)
    token = output.getvalue().strip()
    home.keep("demo-token", token)
    return token


def main() -> None:
    name_settings()
    with exit_in_one_sentence():
        django.setup()
        home = Home.from_environment()
        env = Variables()
        username, email = field_value(env, "username", "admin"), field_value(env, "email", "")
        given = env.secret("DJANGO_SUPERUSER_PASSWORD")
    with in_words(home.path):
        assets.collect(home)
        migrate()
        username, password = admin(home, username, email, given)
        print(json.dumps({"username": username, "password": password, "token": demo_token(home)}))


if __name__ == "__main__":
    try:
        main()
    except (EmbeddedError, DatabaseError, InterfaceError) as error:
        text = str(error) if isinstance(error, EmbeddedError) else faults.sentence(error)
        if text is None:
            raise
        sys.stderr.write(f"make run: {text}\n")
        sys.exit(TOLD)
