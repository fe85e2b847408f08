"""Privileges of the web processes' and the worker's database roles, table by table: the project's own SQL.

The role that owns the tables migrates, and no process serves with it. On a table that is not listed, the web role has
all privileges and the worker none, so a forgotten table works.
"""

from collections.abc import Iterator

from django.db import connection, transaction
from psycopg import sql

READ, ADD, EDIT, ALL = "SELECT", "SELECT, INSERT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"

WEB = {
    # Rows that are written once: a request cannot change them, whatever it exploits. The worker deletes old ones.
    "fundapi_fund": ADD,
    "django_admin_log": ADD,
    "rollout_historicalrollout": ADD,
    "rollout_telemetry": ADD,
    "axes_accessfailurelog": ADD,
    "axes_accesslog": f"{ADD}, UPDATE (logout_time)",
    "auth_user": EDIT,
    "idempotency_store": EDIT,
    "rollout_rollout": EDIT,
    "rollout_watch": EDIT,
    # Tables of the judge and of the release commands.
    "rollout_alert": READ,
    "rollout_check": READ,
    "rollout_deployment": READ,
    "rollout_incident": READ,
    "rollout_stage_member": READ,
    # Tables of migrations.
    "auth_permission": READ,
    "django_content_type": READ,
    "django_migrations": READ,
}
WORKER = {
    "idempotency_store": "SELECT, UPDATE, DELETE",  # UPDATE: to lock what it deletes
    "rollout_alert": ALL,
    "rollout_check": ALL,
    "rollout_deployment": EDIT,
    "rollout_historicalrollout": ADD,
    "rollout_incident": EDIT,
    "rollout_rollout": EDIT,
    "rollout_stage_member": ALL,
    "rollout_telemetry": ALL,
    "rollout_watch": EDIT,
    "axes_accessattempt": "SELECT, DELETE",
    "axes_accessattemptexpiration": "SELECT, DELETE",
    "axes_accessfailurelog": "SELECT, DELETE",
    "axes_accesslog": "SELECT, DELETE",
    "knox_authtoken": "SELECT (expiry), DELETE",
    # Not session_key: who reads it is signed in.
    "django_session": "SELECT (expire_date), DELETE",
}


class ExcessPrivilege(Exception):
    """A role still has a privilege that it must not have; the message says what to do."""


def grant(*, web: str, worker: str) -> None:
    """Grant two roles the privileges that they need in the current schema, and revoke all others.

    May run again; takes no lock on a table.

    Raises:
        django.db.ProgrammingError: a role does not exist, or the caller is not the owner.
        ExcessPrivilege: a role may still create tables.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in _statements(web, worker):
            cursor.execute(statement.as_string(None))
        _refuse_creators(web, worker)


def _refuse_creators(*roles: str) -> None:
    """Check the result, because PostgreSQL only warns when the caller may not revoke a privilege."""
    database, schema = (name.as_string(None) for name in _where())
    with connection.cursor() as cursor:
        for role in roles:
            cursor.execute(
                "SELECT has_database_privilege(%s, current_database(), 'TEMPORARY'),"
                " has_schema_privilege(%s, current_schema(), 'CREATE')",
                [role, role],
            )
            temporary, create = cursor.fetchone()
            if temporary or create:
                raise ExcessPrivilege(
                    f"{role} could still create {'temporary tables' if temporary else 'tables'}. As the owner of the "
                    f"database run: REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC; "
                    f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC; then run this again. "
                    "The role must not be a superuser, nor a member of an owner."
                )


def _statements(web: str, worker: str) -> Iterator[sql.Composed]:
    database, schema = _where()
    # Temporary tables count too: PUBLIC may create them by default, whatever a role itself may do.
    yield sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database)
    yield sql.SQL("REVOKE CREATE ON SCHEMA {} FROM PUBLIC").format(schema)
    for name, privileges, default in ((web, WEB, ALL), (worker, WORKER, "")):
        role = sql.Identifier(name)
        yield sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, role)
        yield sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, role)
        yield sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(schema, role)
        yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role)
        for kind in ("TABLES", "SEQUENCES"):
            every = sql.SQL(f"ALL {kind} IN SCHEMA")
            yield sql.SQL("REVOKE ALL ON {} {} FROM {}").format(every, schema, role)
        yield sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {} TO {}").format(schema, role)
        for table in _tables():
            if given := privileges.get(table, default):
                # `given` is one of the constants above.
                yield sql.SQL(f"GRANT {given} ON {{}} TO {{}}").format(sql.Identifier(table), role)


def _where() -> tuple[sql.Identifier, sql.Identifier]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_schema()")
        database, schema = cursor.fetchone()
    return sql.Identifier(database), sql.Identifier(schema)


def _tables() -> list[str]:
    return sorted(connection.introspection.table_names())
