"""PostgreSQL's journal: one unlogged table in a schema of our own, filled by row triggers.

It has no index and no sequence, and only we read it: two deliveries that write to it neither wait for each other nor are
connected in the eyes of SERIALIZABLE, and ``lastval()`` stays what it was. The function runs with our rights and our settings, so
that a row reads the same whoever changed it. It is always enabled: ``session_replication_role`` does not silence it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from idemfuzz.adapters.sqlalchemy.flavour import Schemas
from idemfuzz.adapters.sqlalchemy.journal import OURS

Run = Callable[[str], list[tuple[Any, ...]]]
_SETTINGS = (
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "bytea_output",
    "lc_monetary",
)
"""What the text of a row depends on."""
_QUIET = "idemfuzz.quiet"
"""Set in our own session: what is put back is not journaled."""
# Of this schema, or of one that is gone: another process may be searching in a third one.
_LEFT = f"""
SELECT nspname::text FROM pg_namespace n WHERE nspname ~ '^{OURS}[0-9]+$' AND (
    nspname = '{OURS}' || to_regnamespace(quote_ident(current_schema()))::oid
    OR NOT EXISTS (SELECT FROM pg_namespace o WHERE '{OURS}' || o.oid = n.nspname))
"""
_FUNCTION = """
CREATE FUNCTION {schema}.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER {settings} AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('INSERT INTO {schema}.journal SELECT $1, -1, t::text, ctid FROM ONLY %s t', TG_RELID::regclass)
            USING TG_RELID;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {schema}.journal VALUES (TG_RELID, -1, OLD::text, OLD.ctid);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {schema}.journal VALUES (TG_RELID, 1, NEW::text, NEW.ctid);
    END IF;
    RETURN NULL;
END $$
"""


class PostgresqlJournal:
    """On some tables, from `start` to `stop`."""

    def __init__(self, run: Run, schemas: Schemas) -> None:
        self._run = run
        self._schemas = schemas
        self._schema = ""
        self._prints: dict[str, tuple[Any, ...]] = {}

    @property
    def query(self) -> str:
        """Table, place, image, sign and the entry's own place, of all that was journaled."""
        return (
            "SELECT CASE n.nspname WHEN current_schema() THEN c.relname::text ELSE n.nspname || '.' || c.relname END, "
            f"j.place::text, j.image, j.sign, j.ctid::text FROM {self._schema}.journal j "
            "JOIN pg_catalog.pg_class c ON c.oid = j.tab JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        )

    def start(self, names: Collection[str], *, quiet: bool) -> None:
        """Put the triggers on, all or none; ``quiet``: what our own session writes is not journaled.

        Raises the driver's error: a right is missing, or a lock.
        """
        ((number,),) = self._run("SELECT to_regnamespace(quote_ident(current_schema()))::oid")
        schema = f"{OURS}{number}"
        settings = " ".join(f"SET {name} FROM CURRENT" for name in _SETTINGS)
        statements = [
            "BEGIN",
            # Whoever writes to a table just now is not waited for: it is read in full then.
            "SET LOCAL lock_timeout = '1s'",
            f"CREATE SCHEMA {schema}",
            f"CREATE UNLOGGED TABLE {schema}.journal (tab oid, sign int2, image text, place tid)",
            _FUNCTION.format(schema=schema, settings=settings),
        ]
        for name in names:
            table = self._schemas.quoted(name)
            statements += [
                f"CREATE TRIGGER {OURS}rows AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW "
                f"WHEN (pg_catalog.current_setting('{_QUIET}', true) IS DISTINCT FROM 'on') "
                f"EXECUTE FUNCTION {schema}.note()",
                f"CREATE TRIGGER {OURS}truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
                f"EXECUTE FUNCTION {schema}.note()",
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {OURS}rows",
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {OURS}truncate",
            ]
        self._run("; ".join([*statements, "COMMIT"]))
        self._schema = schema
        if quiet:
            self._run(f"SET {_QUIET} = 'on'")
        self._prints = {name: self._print(name) for name in names}

    def strayed(self) -> list[str]:
        return [name for name, known in sorted(self._prints.items()) if self._print(name) != known]

    def removal(self, entries: Sequence[str]) -> str:
        """The statement that forgets these entries."""
        listed = ",".join(f'"{entry}"' for entry in entries)
        return f"DELETE FROM {self._schema}.journal WHERE ctid = ANY('{{{listed}}}'::tid[])"

    def _print(self, name: str) -> tuple[Any, ...]:
        """How many rows, and a sum over them that no order changes."""
        ((count, total),) = self._run(
            f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM ONLY {self._schemas.quoted(name)} t"
        )
        return count, total


def clear_away(run: Run) -> None:
    """Remove what is ours, whoever put it there; the triggers go with their function."""
    for (schema,) in run(_LEFT):
        # Whoever drops a schema is told of each trigger that goes with it.
        run(f"SET client_min_messages = warning; DROP SCHEMA {schema} CASCADE; RESET client_min_messages")
