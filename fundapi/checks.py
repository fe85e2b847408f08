"""System checks: misspelt variables, the admin's pages, PostgreSQL's session, log and standbys, and migrations.

In ``check --deploy``, migrations that the version before cannot live with are errors.

During a rolling deployment, old and new workers share the database: the statements of old workers must still work, and
no lock may last longer on a larger table. docs/how-to/migrations.md explains the rules.
"""

import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.admin.checks import check_admin_app
from django.contrib.postgres import operations as postgres
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's own name for it
from django.db import connection
from django.db.migrations import Migration, operations
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import CheckConstraint, Field, ForeignKey, ManyToManyField
from django.db.models.functions import Now

# The last migration of each app before the first deployment. Later ones are checked.
SETTLED = {"fundapi": "0004_deployment_roles", "idempotency": "0002_save", "rollout": "0006_deployment"}
REASON = "safe_because"  # class attribute of a migration that is safe in spite of the rules: a sentence that says why

LOCKING_SQL = re.compile(
    r"CREATE\s+(UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)|REINDEX\s+(?!.*CONCURRENTLY)|ALTER\s+TABLE|DROP\s+(TABLE|FUNCTION)"
    r"|LOCK\s|TRUNCATE|CLUSTER|VACUUM\s+FULL",
    re.IGNORECASE,
)


def check_migrations(**_: Any) -> list[CheckMessage]:
    """Return an error for each operation of a new migration that would disturb a running deployment."""
    loader = MigrationLoader(None)
    return [
        Error(
            f"{app}.{name} {problem}",
            hint=f"See docs/how-to/migrations.md. If it is safe, say why: {REASON} = '...' in the migration.",
            id="fundapi.E001",
        )
        for (app, name), migration in sorted(loader.disk_migrations.items())
        if name > SETTLED.get(app, "~") and not getattr(migration, REASON, "")
        for problem in problems(migration, loader.project_state((app, name), at_end=False))
    ]


def check_variables(**_: Any) -> list[CheckMessage]:
    """Warn of environment variables with a misspelt name."""
    return [Warning(sentence, id="fundapi.W002") for sentence in getattr(settings, "MISSPELT_VARIABLES", ())]


def check_pages(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Do Django's own check of the admin, when every page is there."""
    import_module("fundapi.admin.urls")
    return check_admin_app(app_configs)


def problems(migration: Migration, before: ProjectState) -> Iterator[str]:
    """Yield the unsafe operations of a migration in words, given the models ``before`` it."""
    state, new = before.clone(), set[str]()
    for operation in _of_the_database(migration.operations):
        if isinstance(operation, operations.CreateModel):
            new.add(operation.name_lower)
        elif getattr(operation, "model_name_lower", getattr(operation, "name_lower", "")) not in new:
            yield from _problems(operation, migration, state)
        operation.state_forwards(migration.app_label, state)


def _of_the_database(planned: Iterable[Operation]) -> Iterator[Operation]:
    for operation in planned:
        if isinstance(operation, operations.SeparateDatabaseAndState):
            yield from _of_the_database(operation.database_operations)
        else:
            yield operation


def _problems(operation: Operation, migration: Migration, state: ProjectState) -> Iterator[str]:  # noqa: C901 - one case after the other
    match operation:
        case postgres.AddIndexConcurrently() | postgres.RemoveIndexConcurrently():
            if migration.atomic:
                yield "builds or drops an index concurrently, which needs 'atomic = False'"
        case operations.AddIndex() | operations.RemoveIndex():
            yield "locks a table while it works on an index: use AddIndexConcurrently or RemoveIndexConcurrently"
        case operations.AddField():
            yield from _problems_of_new(operation.field)
        case operations.AlterField():
            model = state.models[migration.app_label, operation.model_name_lower]
            if _in_the_database(model.fields[operation.name]) != _in_the_database(operation.field):
                yield "changes a column, which may rewrite the table: add another one, fill it, move over"
        case postgres.AddConstraintNotValid():
            pass
        case operations.AddConstraint(constraint=CheckConstraint()):
            yield "looks at every row under a lock: use AddConstraintNotValid, then ValidateConstraint in the next"
        case operations.AddConstraint() | operations.AlterUniqueTogether():
            yield "builds an index under a lock: build it concurrently first, then make it the constraint by RunSQL"
        case operations.RunSQL() if LOCKING_SQL.search(str(operation.sql)):
            yield "has SQL that may hold a lock for long, or takes away what the version before uses"
        case operations.RemoveField() | operations.DeleteModel():
            yield "removes what the version before still reads"
        case operations.RenameField() | operations.RenameModel() | operations.AlterModelTable():
            yield "renames what the version before uses: add the new one, fill it, move over"


def _problems_of_new(field: Field) -> Iterator[str]:
    if isinstance(field, ManyToManyField):
        return
    if isinstance(field, ForeignKey) or field.unique or getattr(field, "db_index", False):
        yield "adds a column with an index or a constraint, under a lock: add the column, then the index concurrently"
    if field.get_internal_type() in connection.data_type_check_constraints:
        yield "adds a column with a check, which looks at every row under a lock: use IntegerField"
    if field.has_db_default():
        if hasattr(field.db_default, "resolve_expression") and not isinstance(field.db_default, Now):
            yield "adds a column whose default is computed for every row, under a lock: use a literal"
    elif not field.null:
        yield "adds a column that the version before does not fill: give it db_default or null=True"


def _in_the_database(field: Field) -> Any:
    """Return the properties of a field that PostgreSQL knows."""
    _, path, arguments, keywords = field.deconstruct()
    return path, arguments, {name: it for name, it in keywords.items() if name not in field.non_db_attrs}


# --- The session, the log and the standbys of PostgreSQL --------------------------------------------------------

# Times in ms: current_setting() shows 60000 as "1min". The view pg_settings would take longer than a short time-out.
ACTUAL = """
SELECT name, CASE
    WHEN name LIKE '%%timeout' THEN (extract(epoch FROM current_setting(name)::interval) * 1000)::bigint::text
    ELSE current_setting(name)
END
FROM unnest(%s::text[]) AS name
"""

# Of the server: otherwise its log holds rows and keys that it refused, and values of statements that it logs.
LOG = {"log_error_verbosity": "terse", "log_parameter_max_length": "0"}


def check_session(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return a warning for each setting of a session that differs: behind a pooler, the role has to have them."""
    return [
        Warning(
            f"PostgreSQL's {name} is '{actual}' in our sessions, and should be '{expected}'",
            hint=f"ALTER ROLE {connection.settings_dict['USER'] or 'fundapi'} SET {name} = '{expected}';",
            id="fundapi.W003",
        )
        for name, expected, actual in _differing(settings.DATABASE_SESSION, databases)
    ]


def check_log(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return a warning for each setting with which PostgreSQL's log holds what people sent."""
    return [
        Warning(
            f"PostgreSQL's {name} is '{actual}': its log may hold keys, answers and names. It should be '{expected}'",
            hint="Set it for the server, or as its superuser for our roles (ALTER ROLE ... SET).",
            id="fundapi.W004",
        )
        for name, expected, actual in _differing(LOG, databases)
    ]


def check_standbys(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return a warning when a host may take over that has not got everything that was answered."""
    if "," not in connection.settings_dict["HOST"] or connection.alias not in (databases or ()):
        return []
    with connection.cursor() as cursor:
        # Patroni sets it on the leader alone.
        cursor.execute("SELECT current_setting('synchronous_standby_names') = '' AND NOT pg_is_in_recovery()")
        if cursor.fetchone() != (True,):
            return []
    return [
        Warning(
            "DATABASE_URL names several hosts, and PostgreSQL's synchronous_standby_names is empty: a fund that was "
            "answered may be missing when another host takes over",
            hint="Patroni: synchronous_mode: true. Without it: ALTER SYSTEM SET synchronous_standby_names = '*';",
            id="fundapi.W005",
        )
    ]


def _differing(expected: dict[str, str], databases: Iterable[str] | None) -> Iterator[tuple[str, str, str]]:
    """Yield the settings of the default database that differ: name, expected and actual value."""
    if connection.alias not in (databases or ()):
        return
    with connection.cursor() as cursor:
        cursor.execute(ACTUAL, [list(expected)])
        for name, actual in cursor.fetchall():
            # "ISO" is shown as "ISO, MDY".
            if actual.partition(",")[0] != expected[name]:
                yield name, expected[name], actual
