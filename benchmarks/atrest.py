"""Bytes on disk of a stored key."""

from dataclasses import dataclass

from benchmarks.stack import Stack

RELATIONS = """
SELECT 'heap', pg_table_size(store.oid) - coalesce(pg_total_relation_size(nullif(store.reltoastrelid, 0)), 0)
FROM pg_class AS store WHERE store.oid = 'idempotency_store'::regclass
UNION ALL
SELECT 'TOAST', coalesce(pg_total_relation_size(nullif(store.reltoastrelid, 0)), 0)
FROM pg_class AS store WHERE store.oid = 'idempotency_store'::regclass
UNION ALL
SELECT 'index ' || indexrelid::regclass, pg_table_size(indexrelid)
FROM pg_index WHERE indrelid = 'idempotency_store'::regclass
"""


@dataclass(frozen=True)
class AtRest:
    """Bytes of the table's heap (with its maps), TOAST and each index, and the number of keys in it."""

    keys: int
    sizes: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def rows(self) -> list[list[str]]:
        """Return rows of a table: what, MiB, bytes per key."""
        sizes = {**self.sizes, "all": self.total}
        return [[name, f"{size / 2**20:,.1f}", f"{size / self.keys:.1f}"] for name, size in sizes.items()]


def at_rest(stack: Stack) -> AtRest:
    with stack.superuser() as connection:
        row = connection.execute("SELECT count(*) FROM idempotency_store").fetchone()
        sizes = {str(name): int(size) for name, size in connection.execute(RELATIONS).fetchall()}
    return AtRest(int(row[0]) if row else 0, sizes)
