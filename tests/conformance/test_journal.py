"""The journal tells the same as a comparison of all rows, and nobody else notices that it is there.

Each test does what a job may do, once, on a store whose every table has a journal. `Followed.do` holds the promise: the
changes that the store tells are those of all rows before and after, `restore` leads back, and the store does not doubt itself.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from idemfuzz.abc import Options
from idemfuzz.adapters.sqlalchemy import SqlAlchemyAdapter
from idemfuzz.adapters.sqlalchemy.journal import fold, worth_following
from idemfuzz.api import check
from idemfuzz.model import Verdict
from idemfuzz.testing.bench import Bench

sqlalchemy = pytest.importorskip("sqlalchemy")

on_sqlite = pytest.mark.parametrize("sql_url", ["sqlite", "sqlite-memory"], indirect=True)
on_postgresql = pytest.mark.parametrize("sql_url", ["postgresql"], indirect=True)
on_mysql = pytest.mark.parametrize("sql_url", ["mysql"], indirect=True)
on_servers = pytest.mark.parametrize("sql_url", ["postgresql", "mysql"], indirect=True)

Rows = dict[str, Counter[Any]]


class Followed:
    """An Engine whose tables have a journal, on a bench."""

    def __init__(self, engine: Any, *, rows_max: int = 0) -> None:
        self.engine = engine
        self.backend = engine.url.get_backend_name()
        self.store = SqlAlchemyAdapter().adopt("db", engine, Options(full_read_rows_max=rows_max))
        assert self.store is not None
        self.bench = Bench(stores=[self.store])

    @property
    def flavour(self) -> Any:
        assert self.store is not None
        return self.store._flavour

    def rows(self) -> Rows:
        """All rows of all tables, ours left out."""
        with self.engine.connect() as connection:
            names = [n for n in sqlalchemy.inspect(connection).get_table_names() if "idemfuzz" not in n]
            only = "ONLY " if self.backend == "postgresql" else ""
            quote = connection.dialect.identifier_preparer.quote
            found = {n: connection.exec_driver_sql(f"SELECT * FROM {only}{quote(n)}").all() for n in names}
        return {name: Counter(map(tuple, rows)) for name, rows in found.items() if rows}

    def do(self, job: Callable[[], Any], *, tables: Sequence[str] | None = None) -> Any:
        """Deliver a job; check what the store tells of it (of some tables alone), and put all back."""
        assert self.store is not None
        before = self.rows()
        delivered = self.bench.deliver(job)
        if delivered.error is not None:
            raise delivered.error
        after = self.rows()
        delta = self.store.changes()
        for told, one, other in ((delta.added, after, before), (delta.removed, before, after)):
            found: Rows = {}
            for fact in told:
                found.setdefault(fact.group, Counter())[tuple(fact.fields.values())] += 1
            names = set(one) | set(other) if tables is None else set(tables)
            wanted = {name: one.get(name, Counter()) - other.get(name, Counter()) for name in names}
            assert {n: c for n, c in found.items() if n in names} == {n: c for n, c in wanted.items() if c}
        self.store.restore()
        if tables is None:
            assert self.rows() == before
        assert not self.store.changes()
        assert self.store.verify() is None
        return delivered.value


@contextmanager
def followed(engine: Any, *schema: str, rows_max: int = 0) -> Iterator[Followed]:
    run(engine, *schema)
    subject = Followed(engine, rows_max=rows_max)
    with subject.bench:
        if not rows_max:
            assert subject.flavour.journaled, subject.flavour.refused
        yield subject
    assert not remains(engine), "something of ours is left behind"


def run(engine: Any, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def job(engine: Any, *statements: str) -> Callable[[], None]:
    return lambda: run(engine, *statements)


def remains(engine: Any) -> list[str]:
    """Names of whatever is ours in the database."""
    queries = {
        "sqlite": "SELECT name FROM sqlite_master WHERE name LIKE '%idemfuzz%'",
        "postgresql": (
            "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '%%idemfuzz%%' "
            "UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%%idemfuzz%%'"
        ),
        "mysql": (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%%idemfuzz%%' "
            "UNION ALL SELECT trigger_name FROM information_schema.triggers "
            "WHERE trigger_schema = DATABASE() AND trigger_name LIKE '%%idemfuzz%%'"
        ),
    }
    with engine.connect() as connection:
        query = sqlalchemy.text(queries[engine.url.get_backend_name()].replace("%%", "%"))
        return list(connection.scalars(query))


def items(engine: Any) -> list[str]:
    """Table ``items``, with a generated id and three rows."""
    made_up = {
        "sqlite": "integer primary key autoincrement",
        "postgresql": "serial primary key",
        "mysql": "int auto_increment primary key",
    }[engine.url.get_backend_name()]
    return [
        f"CREATE TABLE items (id {made_up}, name varchar(40) UNIQUE, number int)",
        "INSERT INTO items (name, number) VALUES ('one', 1), ('two', 2), ('three', 3)",
    ]


# -- what it tells -------------------------------------------------------------------------------------------


def test_entries_are_summed_in_any_order() -> None:
    entries = [("t", 1, "a", 1), ("t", -1, "a", 1), ("t", 1, "b", 2), ("t", -1, "z", 9), ("t", 1, "b", 3)]
    for ordered in (entries, entries[::-1]):
        net = fold(ordered)
        assert net.added == {"t": ["b", "b"]}
        assert net.removed == {"t": ["z"]}
        assert set(net.places["t", "b"]) == {2, 3}
    assert not fold([("t", 1, "a", 1), ("t", -1, "a", 1)])


def test_the_largest_tables_are_followed() -> None:
    sizes = {"a": 3, "b": 500, "c": 4, "d": 501}
    assert worth_following(sizes, 500) == {"b", "d"}
    assert worth_following(sizes, 507) == {"d"}
    assert worth_following(sizes, 5000) == set()
    assert worth_following({"a": 0}, 0) == {"a"}


def test_small_databases_get_no_trigger(engine: Any) -> None:
    """Goal: where all rows are few, everything is as if there were no journal."""
    with followed(engine, *items(engine), rows_max=500) as subject:
        assert not remains(engine)
        assert subject.store is not None
        assert subject.store.description == "sql"
        subject.do(job(engine, "INSERT INTO items (name) VALUES ('four')"))


def test_large_tables_have_a_journal_and_small_ones_are_read(engine: Any) -> None:
    with followed(
        engine, *items(engine), "CREATE TABLE many (id int primary key, word varchar(9))", rows_max=4
    ):
        pass
    run(engine, "INSERT INTO many VALUES " + ", ".join(f"({n}, 'w{n}')" for n in range(20)))
    with followed(engine, rows_max=4) as subject:
        assert "many" in subject.flavour.journaled
        assert subject.store is not None
        assert "by journal" in subject.store.description
        subject.do(
            job(
                engine,
                "INSERT INTO items (name) VALUES ('four')",
                "UPDATE many SET word = 'x' WHERE id < 3",
                "DELETE FROM many WHERE id = 5",
            )
        )


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO items (name, number) VALUES ('four', 4)"],
        ["UPDATE items SET number = number + 1"],
        ["UPDATE items SET number = number"],
        ["DELETE FROM items"],
        ["UPDATE items SET id = id + 10 WHERE id = 1"],
        ["DELETE FROM items WHERE id = 1", "INSERT INTO items (id, name, number) VALUES (1, 'one', 1)"],
        ["INSERT INTO items (id, name) VALUES (7, 'seven')", "DELETE FROM items WHERE id = 7"],
        [
            "UPDATE items SET name = 'x' WHERE id = 1",
            "UPDATE items SET name = 'one' WHERE id = 2",
            "UPDATE items SET name = 'two' WHERE id = 1",
        ],
        ["UPDATE items SET name = NULL, number = NULL WHERE id = 3"],
    ],
)
def test_rows_with_a_key(engine: Any, statements: list[str]) -> None:
    with followed(engine, *items(engine)) as subject:
        for _ in range(2):
            subject.do(job(engine, *statements))


def test_rows_without_a_key(engine: Any) -> None:
    with followed(
        engine,
        "CREATE TABLE words (word varchar(9), number int)",
        "INSERT INTO words VALUES ('twin', 1), ('twin', 1), ('twin', 1), (NULL, NULL)",
    ) as subject:
        subject.do(job(engine, "INSERT INTO words VALUES ('twin', 1), ('new', 2), ('new', 2)"))
        subject.do(job(engine, "DELETE FROM words WHERE number = 1", "INSERT INTO words VALUES ('twin', 1)"))
        subject.do(job(engine, "UPDATE words SET number = 5 WHERE number IS NULL", "DELETE FROM words"))


def test_generated_columns(engine: Any) -> None:
    with followed(
        engine,
        "CREATE TABLE boxes (id int primary key, width int, area int GENERATED ALWAYS AS (width * width) STORED)",
        "INSERT INTO boxes (id, width) VALUES (1, 2), (2, 3)",
    ) as subject:
        subject.do(
            job(
                engine,
                "UPDATE boxes SET width = 7 WHERE id = 1",
                "INSERT INTO boxes (id, width) VALUES (3, 1)",
            )
        )
        subject.do(job(engine, "DELETE FROM boxes"))


@pytest.mark.parametrize("sql_url", ["sqlite", "mysql"], indirect=True)
def test_virtual_columns(engine: Any) -> None:
    with followed(
        engine,
        "CREATE TABLE boxes (id int primary key, width int, area int GENERATED ALWAYS AS (width * width) VIRTUAL)",
        "INSERT INTO boxes (id, width) VALUES (1, 2)",
    ) as subject:
        subject.do(job(engine, "UPDATE boxes SET width = 7", "INSERT INTO boxes (id, width) VALUES (3, 1)"))


def test_what_is_rolled_back_was_never_journaled(engine: Any) -> None:
    def work() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("DELETE FROM items")
            connection.rollback()
            connection.exec_driver_sql("UPDATE items SET number = 9 WHERE id = 1")
            with connection.begin_nested() as savepoint:
                connection.exec_driver_sql("UPDATE items SET number = 10 WHERE id = 2")
                savepoint.rollback()
            connection.commit()

    with followed(engine, *items(engine)) as subject:
        subject.do(work)
        assert subject.store is not None
        subject.bench.deliver(work)
        assert len(subject.store.changes().added) == 1
        subject.store.restore()


def test_a_look_may_be_repeated(engine: Any) -> None:
    with followed(engine, *items(engine)) as subject:
        assert subject.store is not None
        subject.bench.deliver(job(engine, "DELETE FROM items WHERE id = 1"))
        first = subject.store.changes()
        assert subject.store.changes() == first
        run(engine, "DELETE FROM items WHERE id = 2")
        assert len(subject.store.changes().removed) == 2
        subject.store.restore()
        assert not subject.store.changes()


def test_cascades(engine: Any) -> None:
    """Goal: what a foreign key does to other tables is told, too, though InnoDB fires no trigger for it."""
    with followed(
        engine,
        "CREATE TABLE a (id int primary key, name varchar(9))",
        "CREATE TABLE b (id int primary key, a int, FOREIGN KEY (a) REFERENCES a (id) ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE c (id int primary key, b int, FOREIGN KEY (b) REFERENCES b (id) ON DELETE CASCADE)",
        "CREATE TABLE d (id int primary key, a int, FOREIGN KEY (a) REFERENCES a (id) ON DELETE SET NULL ON UPDATE CASCADE)",
        "CREATE TABLE tree (id int primary key, up int, FOREIGN KEY (up) REFERENCES tree (id) ON DELETE CASCADE)",
        "INSERT INTO a VALUES (1, 'x'), (2, 'y')",
        "INSERT INTO b VALUES (1, 1), (2, 1), (3, 2)",
        "INSERT INTO c VALUES (1, 1), (2, 3)",
        "INSERT INTO d VALUES (1, 1), (2, 2)",
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)",
    ) as subject:
        enforce = ["PRAGMA foreign_keys=ON"] if subject.backend == "sqlite" else []

        def cascading(*statements: str) -> Callable[[], None]:
            def work() -> None:
                with engine.connect() as connection:
                    for statement in enforce:
                        connection.exec_driver_sql(statement)
                    connection.commit()
                    for statement in statements:
                        connection.exec_driver_sql(statement)
                    connection.commit()

            return work

        subject.do(cascading("UPDATE a SET name = 'z'"))
        subject.do(cascading("DELETE FROM a WHERE id = 1"))
        subject.do(cascading("DELETE FROM a WHERE id = 1", "INSERT INTO a VALUES (1, 'x')"))
        subject.do(cascading("UPDATE a SET id = 9 WHERE id = 2", "INSERT INTO b VALUES (7, 9)"))
        subject.do(cascading("DELETE FROM tree WHERE id = 1"))
        subject.do(cascading("INSERT INTO c VALUES (3, 2)", "DELETE FROM a"))


@pytest.mark.parametrize("sql_url", ["sqlite", "sqlite-memory", "mysql"], indirect=True)
def test_replace(engine: Any) -> None:
    """Goal: the rows that REPLACE removes are told. In SQLite, triggers see them only if they may recurse."""
    verb = {"sqlite": "INSERT OR REPLACE INTO", "mysql": "REPLACE INTO"}[engine.url.get_backend_name()]
    with followed(engine, *items(engine)) as subject:
        subject.do(job(engine, f"{verb} items (id, name, number) VALUES (1, 'two', 5)"))
        subject.do(job(engine, f"{verb} items (name, number) VALUES ('one', 5), ('new', 6)"))
        if subject.backend == "sqlite":
            subject.do(job(engine, "UPDATE OR REPLACE items SET name = 'two' WHERE id = 1"))
            subject.do(job(engine, "INSERT OR IGNORE INTO items (name) VALUES ('one'), ('new')"))


@pytest.mark.parametrize("sql_url", ["sqlite"], indirect=True)
def test_replace_in_an_engine_of_the_jobs_own(engine: Any, sql_url: str) -> None:
    def work() -> None:
        own = sqlalchemy.create_engine(sql_url)
        run(own, "REPLACE INTO items (id, name, number) VALUES (1, 'two', 5)")
        own.dispose()

    with followed(engine, *items(engine)) as subject:
        subject.do(work)


def test_upserts(engine: Any) -> None:
    clause = {
        "mysql": "ON DUPLICATE KEY UPDATE number = 7",
    }.get(engine.url.get_backend_name(), "ON CONFLICT (name) DO UPDATE SET number = 7")
    with followed(engine, *items(engine)) as subject:
        subject.do(job(engine, f"INSERT INTO items (name, number) VALUES ('one', 5), ('new', 6) {clause}"))


# -- what the job sees ---------------------------------------------------------------------------------------


def _seen(engine: Any) -> list[Any]:
    """What a job can learn of its statements besides rows."""
    backend = engine.url.get_backend_name()
    ask = {
        "sqlite": "SELECT last_insert_rowid(), changes()",
        "postgresql": "SELECT lastval()",
        "mysql": "SELECT LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS(), @@warning_count",
    }[backend]
    seen: list[Any] = []
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO items (name, number) VALUES ('four', 4)",
            "INSERT INTO items (name, number) VALUES ('five', 5), ('six', 6)",
            "UPDATE items SET number = number + 1 WHERE number > 1",
            "DELETE FROM items WHERE name = 'one'",
        ):
            result = connection.exec_driver_sql(statement)
            seen.append((result.rowcount, getattr(result, "lastrowid", None)))
            seen.append(tuple(connection.exec_driver_sql(ask).one()))
        if backend != "mysql":
            result = connection.exec_driver_sql(
                "INSERT INTO items (name) VALUES ('seven') RETURNING id, name, number"
            )
            seen.append([tuple(row) for row in result])
            result = connection.exec_driver_sql("DELETE FROM items WHERE id = 2 RETURNING *")
            seen.append([tuple(row) for row in result])
        seen.append([tuple(row) for row in connection.exec_driver_sql("SELECT * FROM items ORDER BY id")])
    return seen


def test_a_job_sees_nothing_of_it(engine: Any) -> None:
    """Goal: generated ids, row counts and RETURNING are what they are without. Method: the same job on both."""
    run(engine, *items(engine))
    with followed(engine, rows_max=10_000) as without:
        plain = without.do(lambda: _seen(engine))
    with followed(engine) as subject:
        assert [subject.do(lambda: _seen(engine)) for _ in range(2)] == [plain, plain]


def test_footprints_do_not_take_note_of_it(engine: Any) -> None:
    """Goal: a table with nothing but our triggers is as plain as before, so that as few schedules conflict."""
    run(engine, *items(engine), "CREATE VIEW shown AS SELECT id FROM items")
    with followed(engine, rows_max=10_000) as without:
        tables, views = without.flavour.tables, without.flavour.views
    with followed(engine) as subject:
        subject.flavour.reflect()
        assert subject.flavour.tables == tables
        assert tables["items"].plain
        assert subject.flavour.views == views


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
@on_servers
def test_two_deliveries_do_not_meet_in_it(engine: Any, level: str) -> None:
    """Goal: the journal brings no lock waits and no conflicts. Method: two transactions at once, on rows of their own."""
    with followed(
        engine,
        *items(engine),
        "CREATE TABLE others (id int primary key, n int)",
        "INSERT INTO others VALUES (1, 1)",
    ) as subject:
        strict = engine.execution_options(isolation_level=level)
        impatient = {
            "postgresql": "SET lock_timeout = '300ms'",
            "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
        }

        def work() -> None:
            with strict.connect() as one, strict.connect() as other:
                for connection in (one, other):
                    connection.exec_driver_sql(impatient[subject.backend])
                    connection.commit()
                for _ in range(2):
                    one.exec_driver_sql("UPDATE items SET number = number + 1 WHERE id = 1")
                    other.exec_driver_sql("UPDATE others SET n = n + 1 WHERE id = 1")
                one.exec_driver_sql("INSERT INTO items (name) VALUES ('four')")
                other.exec_driver_sql("INSERT INTO items (name) VALUES ('five')")
                other.commit()
                one.commit()

        subject.do(work)


# -- past the ordinary ---------------------------------------------------------------------------------------


@on_servers
def test_truncate(engine: Any) -> None:
    restart = " RESTART IDENTITY CASCADE" if engine.url.get_backend_name() == "postgresql" else ""
    with followed(engine, *items(engine)) as subject:
        for _ in range(2):
            subject.do(
                job(engine, f"TRUNCATE TABLE items{restart}", "INSERT INTO items (name) VALUES ('new')")
            )


def test_tables_that_come_and_go(engine: Any) -> None:
    temporary = "CREATE TEMPORARY TABLE scratch (id int)"
    with followed(engine, *items(engine)) as subject:
        subject.do(
            job(
                engine,
                "CREATE TABLE fresh (id int primary key)",
                "INSERT INTO fresh VALUES (1)",
                "UPDATE items SET number = 9",
                "DROP TABLE fresh",
                temporary,
                "INSERT INTO scratch VALUES (1)",
                "DROP TABLE scratch",
            )
        )
        subject.do(job(engine, "DELETE FROM items"))


def test_a_table_that_stays(engine: Any) -> None:
    """Goal: the rows of a table that the job makes are told, and those of the others still are."""
    with followed(engine, *items(engine)) as subject:
        for _ in range(2):
            subject.do(
                job(
                    engine,
                    "CREATE TABLE IF NOT EXISTS fresh (id int primary key)",
                    "INSERT INTO fresh VALUES (1)",
                    "UPDATE items SET number = 9 WHERE id = 1",
                )
            )


def test_a_table_that_gets_another_column(engine: Any) -> None:
    """Goal: triggers do not stand in the way of ALTER TABLE, nor of what comes after it, nor spoil what came before."""
    with followed(engine, *items(engine), "ALTER TABLE items ADD COLUMN spare int") as subject:
        subject.do(job(engine, "UPDATE items SET number = 8 WHERE id = 1"))

        def work() -> None:
            run(engine, "UPDATE items SET number = 9 WHERE id = 1")
            run(engine, "ALTER TABLE items DROP COLUMN spare")
            run(engine, "INSERT INTO items (name) VALUES ('four')")
            run(engine, "ALTER TABLE items ADD COLUMN spare int")

        subject.do(work)
        subject.do(job(engine, "DELETE FROM items WHERE id = 2"))


@on_postgresql
def test_copy(engine: Any) -> None:
    def work() -> None:
        with engine.begin() as connection:
            with (
                connection.connection.cursor() as cursor,
                cursor.copy("COPY items (name, number) FROM STDIN") as copy,
            ):
                copy.write("four\t4\nfive\t5\n")

    with followed(engine, *items(engine)) as subject:
        subject.do(work)


@on_mysql
def test_load_data(engine: Any, tmp_path: Any) -> None:
    file = tmp_path / "rows.txt"
    file.write_text("one\t11\nfour\t4\n")
    loading = sqlalchemy.create_engine(engine.url, connect_args={"local_infile": True})
    with followed(loading, *items(engine)) as subject:
        with loading.connect() as connection:
            if not connection.exec_driver_sql("SELECT @@local_infile").scalar():
                pytest.skip("the server takes no LOAD DATA LOCAL")
        subject.do(job(loading, f"LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE items (name, number)"))
    loading.dispose()


def test_many_rows_at_once(engine: Any) -> None:
    table = sqlalchemy.table("items", sqlalchemy.column("name"), sqlalchemy.column("number"))

    def work() -> None:
        with engine.begin() as connection:
            connection.execute(table.insert(), [{"name": f"n{n}", "number": n} for n in range(1500)])
            connection.execute(table.update().values(number=0))

    with followed(engine, *items(engine)) as subject:
        subject.do(work)


@on_postgresql
def test_partitions_and_children(engine: Any) -> None:
    """Goal: each row is told once, by the partitioned table's name, wherever it lies; and no other row is touched."""
    with followed(
        engine,
        "CREATE TABLE events (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE events_high PARTITION OF events FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE base (id int, word text)",
        "CREATE TABLE derived (more int) INHERITS (base)",
        "INSERT INTO events VALUES (1, 1), (2, 2), (3, 11), (4, 12)",
        "INSERT INTO base VALUES (1, 'x'), (2, 'y')",
        "INSERT INTO derived VALUES (1, 'x', 1), (2, 'y', 2)",
    ) as subject:
        assert subject.store is not None
        before = subject.rows()
        subject.bench.deliver(
            job(
                engine,
                "UPDATE events SET at = 15 WHERE id = 1",
                "INSERT INTO events VALUES (5, 5)",
                "DELETE FROM events WHERE id = 4",
            )
        )
        delta = subject.store.changes()
        assert sorted(tuple(f.fields.values()) for f in delta.added) == [(1, 15), (5, 5)]
        assert sorted(tuple(f.fields.values()) for f in delta.removed) == [(1, 1), (4, 12)]
        assert {f.group for f in (*delta.added, *delta.removed)} == {"events"}
        subject.store.restore()
        assert subject.rows() == before
        subject.do(job(engine, "UPDATE base SET word = 'z' WHERE id = 1", "DELETE FROM base WHERE id = 2"))
        subject.do(
            job(engine, "INSERT INTO derived VALUES (3, 'w', 3)", "DELETE FROM ONLY base WHERE id = 1")
        )


@on_postgresql
def test_sessions_of_another_mind(engine: Any) -> None:
    """Goal: a row reads the same whatever the job's session has set, and no role of a session silences the journal."""

    def work() -> None:
        run(
            engine,
            "SET TimeZone = 'Asia/Kathmandu'",
            "SET DateStyle = 'German'",
            "SET IntervalStyle = 'iso_8601'",
            "SET extra_float_digits = -10",
            "SET bytea_output = 'escape'",
            "UPDATE moments SET word = 'x' WHERE id = 1",
            "INSERT INTO moments (id, at, price) VALUES (3, '2024-02-03 04:05:06.789+00', 0.1)",
            "SET session_replication_role = replica",
            "DELETE FROM moments WHERE id = 2",
        )
        # In another session, the rows are those that were added before.
        with engine.connect() as connection:
            connection.exec_driver_sql("SET TimeZone = 'UTC'")
            connection.exec_driver_sql("UPDATE moments SET word = 'y' WHERE id = 3")
            connection.commit()
            connection.invalidate()

    with followed(
        engine,
        "CREATE TABLE moments (id int primary key, at timestamptz, lasts interval, price float8, raw bytea, word text)",
        "INSERT INTO moments VALUES (1, '2024-01-01 01:00+00', '1 day 2 hours', 0.1, '\\x00ff', 'a'), "
        "(2, '2024-06-01 01:00+00', '3 mons', 1e-9, '\\x0a', NULL)",
    ) as subject:
        subject.do(work)


@on_mysql
def test_values_of_every_type(engine: Any) -> None:
    def work() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET time_zone = '+05:45'")
            connection.exec_driver_sql("UPDATE things SET word = 'B' WHERE id = 1")
            connection.commit()
            connection.invalidate()
        run(
            engine,
            "INSERT INTO things (id, word) VALUES (2, 'é😀')",
            "UPDATE things SET at = NULL WHERE id = 1",
        )

    with followed(
        engine,
        "CREATE TABLE things (id int primary key, at timestamp(3) NULL, day datetime, took time(2), price decimal(20, 6), "
        "ratio double, kind enum('x', 'y'), marks set('a', 'b'), bits bit(9), raw varbinary(20), doc json, word varchar(20) "
        "CHARACTER SET utf8mb4, big bigint unsigned) ENGINE=InnoDB",
        "INSERT INTO things VALUES (1, '2024-01-01 01:00:00.123', '2024-01-01', '-12:00:00.5', 1.5, 0.1, 'y', 'a,b', b'101', "
        "x'00ff', '{\"a\": 1}', 'b', 18446744073709551615)",
    ) as subject:
        subject.do(work)


@on_sqlite
def test_values_without_a_type(engine: Any) -> None:
    """Goal: what is put back has the type that it had: 1, 1.0 and '1' are not one."""
    with followed(
        engine,
        'CREATE TABLE things (id integer primary key, a, b real, "odd name" text, rowid text)',
        "CREATE TABLE pairs (a text, b int, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "INSERT INTO things VALUES (1, 1, 1, 'x', 'r'), (2, '1', 2.5, NULL, NULL), (3, x'00ff', NULL, 'é', 's')",
        "INSERT INTO pairs VALUES ('a', 1), ('b', 2)",
    ) as subject:
        subject.do(job(engine, "UPDATE things SET a = '1' WHERE id = 1", "DELETE FROM things WHERE id = 3"))
        run(engine, "UPDATE things SET a = 1.0 WHERE id = 1")
        assert subject.store is not None
        subject.store.changes()
        subject.store.restore()
        with engine.connect() as connection:
            assert (
                connection.exec_driver_sql("SELECT typeof(a) FROM things WHERE id = 1").scalar() == "integer"
            )
        subject.do(job(engine, "UPDATE pairs SET b = 5 WHERE a = 'a'", "DELETE FROM pairs WHERE a = 'b'"))


# -- triggers of the user's own ------------------------------------------------------------------------------


@on_postgresql
@pytest.mark.parametrize("name", ["aaa", "zzz"])
def test_triggers_before_and_after_ours(engine: Any, name: str) -> None:
    """Goal: the order of triggers does not matter, as entries are summed up. Method: one that changes the same row again."""
    with followed(
        engine,
        *items(engine),
        "CREATE TABLE log (id serial primary key, word text)",
        "CREATE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO log (word) VALUES (TG_OP); "
        "IF TG_OP = 'INSERT' THEN UPDATE items SET number = 100 WHERE id = NEW.id; END IF; RETURN NULL; END $$",
        f"CREATE TRIGGER {name} AFTER INSERT OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION react()",
    ) as subject:
        subject.do(job(engine, "INSERT INTO items (name) VALUES ('four')", "DELETE FROM items WHERE id = 1"))


@on_postgresql
def test_triggers_that_answer_to_restore(engine: Any) -> None:
    """Goal: a role that may not switch triggers off leads back all the same."""
    run(
        engine,
        *items(engine),
        "CREATE TABLE log (id serial primary key, word text)",
        "CREATE FUNCTION react() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO log (word) VALUES (TG_OP); RETURN NULL; END $$",
        "CREATE TRIGGER react AFTER INSERT OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION react()",
    )
    with _plain_role(engine, owner=True) as plain, followed(plain) as subject:
        assert not subject.flavour._replica
        subject.do(job(plain, "INSERT INTO items (name) VALUES ('four')", "DELETE FROM items WHERE id = 1"))


@on_mysql
def test_history_triggers(engine: Any) -> None:
    """Goal: the user's own trigger answers to restore, and that is taken back, too."""
    with followed(
        engine,
        *items(engine),
        "CREATE TABLE log (id int auto_increment primary key, word varchar(9))",
        "CREATE TRIGGER stamp BEFORE INSERT ON items FOR EACH ROW SET NEW.number = COALESCE(NEW.number, 100)",
        "CREATE TRIGGER react AFTER DELETE ON items FOR EACH ROW INSERT INTO log (word) VALUES ('deleted')",
    ) as subject:
        subject.do(job(engine, "INSERT INTO items (name) VALUES ('four')", "DELETE FROM items WHERE id = 1"))
        subject.do(job(engine, "INSERT INTO log (word) VALUES ('mine')"))


@on_sqlite
def test_sqlite_with_triggers_is_read_in_full(engine: Any) -> None:
    run(engine, *items(engine), "CREATE TABLE log (word text)")
    trigger = "CREATE TRIGGER react AFTER DELETE ON items BEGIN INSERT INTO log VALUES ('deleted'); END"
    with followed(engine, trigger, rows_max=1) as subject:
        assert not subject.flavour.journaled
        assert subject.store is not None
        assert "items read in full: the trigger react" in subject.store.description
        subject.do(job(engine, "DELETE FROM items WHERE id = 1"))


# -- where it cannot be --------------------------------------------------------------------------------------


@contextmanager
def _plain_role(engine: Any, *, owner: bool) -> Iterator[Any]:
    """An Engine of a role without special rights, which owns the tables or may only write to them."""
    role = f"idemfuzz_test_{engine.url.database}"[:60]
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
    database = connection.dialect.identifier_preparer.quote(engine.url.database)
    run(
        engine,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT CREATE ON DATABASE {database} TO {role}",
        f"GRANT ALL ON SCHEMA public TO {role}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        *(f"ALTER TABLE {table} OWNER TO {role}" for table in tables if owner),
    )
    plain = sqlalchemy.create_engine(engine.url.set(username=role, password="x"))
    try:
        yield plain
    finally:
        plain.dispose()
        run(engine, f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@on_postgresql
def test_tables_of_another_owner_are_read_in_full(engine: Any) -> None:
    run(engine, *items(engine))
    with _plain_role(engine, owner=False) as plain, followed(plain, rows_max=1) as subject:
        assert not subject.flavour.journaled
        assert subject.store is not None
        assert subject.store.description == "sql; items read in full: the role does not own it"
        subject.do(job(plain, "DELETE FROM items WHERE id = 1"))


@on_postgresql
def test_a_role_that_may_not_make_all_haste_gets_its_connections_back_as_they_were(engine: Any) -> None:
    run(engine, *items(engine))
    usual = "SELECT setting = reset_val FROM pg_settings WHERE name = 'synchronous_commit'"
    with _plain_role(engine, owner=False) as plain:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="idemfuzz could not remove")
            with followed(plain, rows_max=1) as subject:
                subject.do(job(plain, "DELETE FROM items WHERE id = 1"))
        with plain.connect() as connection:
            assert connection.exec_driver_sql(usual).scalar() is True


@on_postgresql
def test_a_lock_at_the_start_is_not_waited_for(engine: Any) -> None:
    run(engine, *items(engine))
    subject = Followed(engine)
    with engine.connect() as holding:
        holding.exec_driver_sql("LOCK TABLE items IN ROW EXCLUSIVE MODE")
        with subject.bench:
            assert "lock timeout" in subject.flavour.refused["items"]
            holding.rollback()
            subject.do(job(engine, "DELETE FROM items WHERE id = 1"))


@on_mysql
def test_without_the_right_to_triggers_all_is_read(engine: Any) -> None:
    user, database = "'idemfuzz_plain'@'%%'", engine.url.database
    run(
        engine,
        *items(engine),
        f"CREATE OR REPLACE USER {user} IDENTIFIED BY 'x'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, LOCK TABLES ON `{database}`.* TO {user}",
    )
    plain = sqlalchemy.create_engine(engine.url.set(username="idemfuzz_plain", password="x"))
    try:
        with followed(plain, rows_max=1) as subject:
            assert not subject.flavour.journaled
            assert "TRIGGER command denied" in subject.flavour.refused["items"]
            subject.do(job(plain, "DELETE FROM items WHERE id = 1"))
    finally:
        plain.dispose()
        run(engine, f"DROP USER {user}")


@on_mysql
def test_engines_without_transactions_are_read_in_full(engine: Any) -> None:
    with followed(
        engine,
        *items(engine),
        "CREATE TABLE old (id int primary key) ENGINE=MyISAM",
        "INSERT INTO old VALUES (1)",
    ) as subject:
        assert subject.flavour.journaled == {"items"}
        assert subject.flavour.refused == {"old": "MyISAM knows no transactions"}
        subject.do(job(engine, "INSERT INTO old VALUES (2)", "DELETE FROM items WHERE id = 1"))


# -- when it goes wrong --------------------------------------------------------------------------------------


def test_what_a_killed_search_left_is_cleared_away(engine: Any) -> None:
    """Method: a store that is never closed, as after SIGKILL; the next search begins with what it left."""
    run(engine, *items(engine))
    killed = Followed(engine)
    killed.bench.__enter__()
    try:
        if engine.url.get_backend_name() == "sqlite" and engine.url.database in (None, ":memory:"):
            pytest.skip("a database in memory goes with its process")
        assert remains(engine)
        killed.flavour._own.close()
        killed.flavour.close = lambda: None
    finally:
        killed.bench.__exit__(None, None, None)
    assert remains(engine)
    run(engine, "INSERT INTO items (name) VALUES ('after the kill')")
    with followed(engine, rows_max=10_000):
        assert not remains(engine)


_PAST_THE_TRIGGERS = {
    "postgresql": "SET idemfuzz.quiet = 'on'",
    "mysql": "SET @_idemfuzz_quiet = 1",
}


@on_servers
def test_a_change_past_the_triggers_is_our_own_doubt(engine: Any) -> None:
    """Goal: rows that change unseen never make a pass. Method: a job whose session the triggers keep quiet in."""

    def sneaky() -> None:
        run(engine, "INSERT INTO items (name) VALUES ('seen')")
        with engine.connect() as connection:
            connection.exec_driver_sql(_PAST_THE_TRIGGERS[engine.url.get_backend_name()])
            connection.exec_driver_sql("UPDATE items SET number = 77 WHERE id = 2")
            connection.commit()
            connection.invalidate()

    def open_job() -> None:
        with engine.begin() as connection:
            if connection.exec_driver_sql("SELECT 1 FROM items WHERE name = 'seen'").first() is None:
                connection.exec_driver_sql("INSERT INTO items (name) VALUES ('seen')")

    run(engine, *items(engine))
    fair = check(open_job, job=open_job, stores={"db": engine}, full_read_rows_max=0, faults=["duplicate"])
    assert fair.verdict is Verdict.HOLDS
    assert fair.certificate.stores == ("db (sql; 1 table by journal)",)
    report = check(sneaky, job=sneaky, stores={"db": engine}, full_read_rows_max=0, max_trials=5)
    assert "IDM907" in [note.code for note in report.notes]
    assert report.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("sql_url", ["sqlite"], indirect=True)
def test_a_change_past_sqlites_triggers_is_put_back(engine: Any) -> None:
    """Goal: SQLite has a copy, so that not even an unseen REPLACE is left behind."""

    def sneaky() -> None:
        run(engine, "INSERT INTO items (name) VALUES ('seen')")
        own = sqlite3.connect(engine.url.database)
        own.execute("REPLACE INTO items (id, name, number) VALUES (1, 'two', 5)")
        own.commit()
        own.close()

    run(engine, *items(engine))
    before = Followed(engine).rows()
    report = check(sneaky, job=sneaky, stores={"db": engine}, full_read_rows_max=0, max_trials=5)
    assert "IDM907" in [note.code for note in report.notes]
    assert report.verdict is Verdict.UNKNOWN
    assert Followed(engine).rows() == before
