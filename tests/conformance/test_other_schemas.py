"""What a job writes outside of the default schema is seen, compared and put back, or doubted: never passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    text,
)
from sqlalchemy.pool import StaticPool

import idemfuzz

SCHEMA = f"billing_test_{os.getpid()}"

metadata = MetaData()
customers = Table(
    "customers", metadata, Column("id", Integer, primary_key=True), Column("name", String(20), unique=True)
)
loose = Table(
    "loose",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("number", String(20)),
    schema=SCHEMA,
)
invoices = Table(
    "invoices",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("follows", ForeignKey(loose.c.id)),
    Column("number", String(20), unique=True),
    Column("total", Integer),
    schema=SCHEMA,
)


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def db(request: pytest.FixtureRequest, tmp_path: Path, lend: Callable[[str], str]) -> Iterator[Any]:
    """An engine whose database has a second schema: an attached file on SQLite, a database of its own on MariaDB."""
    is_sqlite = request.param == "sqlite"
    engine = create_engine(f"sqlite:///{tmp_path / 'main.db'}" if is_sqlite else lend(request.param))
    if is_sqlite:

        @event.listens_for(engine, "connect")
        def attach(connection: Any, _: Any) -> None:
            connection.execute(f"ATTACH DATABASE '{tmp_path / 'billing.db'}' AS {SCHEMA}")

        tables = [customers, loose]
    else:
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        tables = [customers, invoices, loose]
    metadata.create_all(engine, tables=tables)
    with engine.begin() as connection:
        connection.execute(insert(loose).values(number="old"))
    yield engine
    engine.dispose()
    metadata.drop_all(engine, tables=tables)
    if not is_sqlite:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {SCHEMA}"))
    engine.dispose()


def codes(report: idemfuzz.Report) -> list[str]:
    return [finding.code for finding in report.findings]


def numbers(db: Any) -> list[str]:
    with db.connect() as connection:
        return list(connection.scalars(select(loose.c.number).order_by(loose.c.id)))


def test_a_duplicate_there_is_found_and_put_back(db: Any) -> None:
    """Goal: rows outside of the default schema count. Method: beside a guarded table of the default one, a bare insert."""

    def bill(db: Any, number: str) -> None:
        with db.begin() as connection:
            connection.execute(loose.insert().values(number=number))
            if connection.scalar(select(customers.c.id).where(customers.c.name == number)) is None:
                connection.execute(customers.insert().values(name=number))

    report = idemfuzz.check(lambda: bill(db, "A-1"), job=bill, stores={"db": db})

    assert "IDM101" in codes(report)
    (found,) = [f for f in report.findings if f.code == "IDM101"]
    assert f"{SCHEMA}.loose" in found.summary
    assert numbers(db) == ["old"]


def test_a_right_job_there_is_silent(db: Any) -> None:
    """Goal: no alarm. Method: rows there are changed and removed, which must be put back each time."""

    def settle(db: Any, number: str) -> None:
        with db.begin() as connection:
            connection.execute(loose.update().where(loose.c.number == number).values(number="new"))
            connection.execute(loose.delete().where(loose.c.number == "never"))

    report = idemfuzz.check(lambda: settle(db, "old"), job=settle, stores={"db": db})

    assert (report.verdict, report.notes) == ("holds", ()), report
    assert numbers(db) == ["old"]


def test_what_the_test_itself_does_there_is_put_back(db: Any) -> None:
    """Goal: the scenario's own rows do not stay. Method: its first statement is the first of all that names the schema."""

    def touch(db: Any, number: str) -> None:
        with db.begin() as connection:
            connection.execute(loose.update().where(loose.c.number == number).values(number="touched"))

    def scenario() -> None:
        with db.begin() as connection:
            connection.execute(insert(loose).values(number="mine"))
        touch(db, "mine")

    report = idemfuzz.check(scenario, job=touch, stores={"db": db})

    assert report.verdict == "holds", report
    assert numbers(db) == ["old"]


def test_a_large_database_has_its_journal_beside(db: Any) -> None:
    """Goal: a journal of the default schema and rows that are read in full get on. Method: all tables get a journal."""

    def bill(db: Any, number: str) -> None:
        with db.begin() as connection:
            connection.execute(loose.insert().values(number=number))
            connection.execute(customers.update().values(name=number))

    with db.begin() as connection:
        connection.execute(insert(customers).values(name="ada"))
    report = idemfuzz.check(
        lambda: bill(db, "A-1"), job=bill, stores={"db": db}, full_read_rows_max=0, max_trials=12
    )

    assert codes(report) == ["IDM101"]
    assert numbers(db) == ["old"]
    with db.connect() as connection:
        assert connection.scalars(select(customers.c.name)).all() == ["ada"]


@pytest.mark.parametrize("db", ["postgresql", "mysql"], indirect=True)
def test_the_key_that_carries_is_proved_and_stays(db: Any) -> None:
    """Goal: a unique key there is taken away for a proof, and put back. Method: a job that it alone carries."""

    def bill(db: Any, number: str) -> None:
        with db.begin() as connection:
            ignore = " ON CONFLICT (number) DO NOTHING" if db.dialect.name == "postgresql" else ""
            verb = "INSERT" if ignore else "INSERT IGNORE"
            sql = f"{verb} INTO {SCHEMA}.invoices (number, total) VALUES (:number, 1){ignore}"
            connection.execute(text(sql), {"number": number})

    report = idemfuzz.check(lambda: bill(db, "A-1"), job=bill, stores={"db": db}, prove=True)

    assert report.proof is not None
    roles = {guard.name: str(r.role) for r in report.proof.removals for guard in r.guards}
    assert roles == {f"UNIQUE({SCHEMA}.invoices.number)": "carries"}
    with db.begin() as connection:
        connection.execute(insert(invoices).values(number="twice"))
    with pytest.raises(Exception, match=r"(?i)duplicate"), db.begin() as connection:
        connection.execute(insert(invoices).values(number="twice"))
    with db.begin() as connection:
        connection.execute(invoices.delete())


WAYS = {
    "in the text": ("", ""),
    "for the transaction": ("SET LOCAL search_path TO tenant", ""),
    "by a function": ("SELECT set_config('search_path', 'tenant', true)", ""),
    "for the engine": ("", "-csearch_path=tenant"),
    "behind another one": ("", "-csearch_path=empty,tenant"),
}


@pytest.mark.parametrize("way", WAYS)
def test_postgresql_has_many_ways_to_a_schema(lend: Callable[[str], str], way: str) -> None:
    """Goal: whichever way a job takes, its rows are seen. Method: one update, which must not be done twice."""
    begin, options = WAYS[way]
    url = lend("postgresql")
    engine = create_engine(url, connect_args={"options": options} if options else {})
    table = "tenant.accounts" if way == "in the text" else "accounts"

    def deposit(db: Any, name: str) -> None:
        with db.begin() as connection:
            if begin:
                connection.execute(text(begin))
            connection.execute(
                text(f"UPDATE {table} SET balance = balance + 1 WHERE name = :name"), {"name": name}
            )

    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE SCHEMA empty"))
        connection.execute(text("CREATE TABLE tenant.accounts (name text PRIMARY KEY, balance int)"))
        connection.execute(text("INSERT INTO tenant.accounts VALUES ('ada', 1)"))
    try:
        report = idemfuzz.check(lambda: deposit(engine, "ada"), job=deposit, stores={"db": engine})
        with engine.connect() as connection:
            balance = connection.scalar(text("SELECT balance FROM tenant.accounts"))
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA tenant CASCADE"))
            connection.execute(text("DROP SCHEMA empty"))
        engine.dispose()

    assert "IDM102" in codes(report)
    assert balance == 1


def test_an_engine_of_the_jobs_own_may_begin_elsewhere(lend: Callable[[str], str]) -> None:
    """Goal: the same database by another search path. Method: the job makes such an engine."""
    url = lend("postgresql")
    engine = create_engine(url)

    def deposit(name: str) -> None:
        own = create_engine(url, connect_args={"options": "-csearch_path=tenant"})
        with own.begin() as connection:
            connection.execute(text("UPDATE accounts SET balance = balance + 1 WHERE name = :n"), {"n": name})
        own.dispose()

    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE TABLE tenant.accounts (name text PRIMARY KEY, balance int)"))
        connection.execute(text("INSERT INTO tenant.accounts VALUES ('ada', 1)"))
    try:
        report = idemfuzz.check(lambda: deposit("ada"), job=deposit, stores={"db": engine})
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA tenant CASCADE"))
        engine.dispose()

    assert codes(report) == ["IDM102"]


def test_an_asynchronous_engine_is_told_its_path_when_it_connects(lend: Callable[[str], str]) -> None:
    """Goal: what only the engine's own driver knows is asked. Method: asyncpg's ``server_settings``."""
    pytest.importorskip("asyncpg")
    from sqlalchemy.ext.asyncio import create_async_engine

    url = lend("postgresql")
    plain = create_engine(url)
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        connect_args={"server_settings": {"search_path": "tenant"}},
    )

    async def deposit(db: Any, name: str) -> None:
        async with db.begin() as connection:
            await connection.execute(
                text("UPDATE accounts SET balance = balance + 1 WHERE name = :n"), {"n": name}
            )

    async def scenario() -> None:
        await deposit(engine, "ada")

    with plain.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(text("CREATE TABLE tenant.accounts (name text PRIMARY KEY, balance int)"))
        connection.execute(text("INSERT INTO tenant.accounts VALUES ('ada', 1)"))
    try:
        report = idemfuzz.check(scenario, job=deposit, stores={"db": engine})
    finally:
        with plain.begin() as connection:
            connection.execute(text("DROP SCHEMA tenant CASCADE"))
        plain.dispose()

    assert codes(report) == ["IDM102"]


def test_a_database_that_may_not_be_written_to_is_a_doubt(lend: Callable[[str], str]) -> None:
    """Goal: a schema that is another database needs its own permission. Method: MariaDB, a name that says nothing of tests."""
    engine = create_engine(lend("mysql"))
    name = f"billing_{os.getpid()}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        connection.execute(text(f"CREATE TABLE {name}.log (id int AUTO_INCREMENT PRIMARY KEY, what text)"))

    def note(db: Any, what: str) -> None:
        with db.begin() as connection:
            connection.execute(text(f"INSERT INTO {name}.log (what) VALUES (:what)"), {"what": what})

    try:
        refused = idemfuzz.check(lambda: note(engine, "x"), job=note, stores={"db": engine})
        with engine.begin() as connection:
            connection.execute(text(f"DELETE FROM {name}.log"))
        allowed = idemfuzz.check(lambda: note(engine, "x"), job=note, stores={"db": engine}, allow=[name])
        with engine.connect() as connection:
            assert connection.scalar(text(f"SELECT count(*) FROM {name}.log")) == 0
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP DATABASE {name}"))
        engine.dispose()

    assert refused.verdict == "unknown"
    (doubt,) = [note for note in refused.notes if note.code == "IDM904"]
    assert f"allow=['{name}']" in doubt.text
    assert codes(allowed) == ["IDM101"]


def test_what_is_attached_in_memory_is_refused() -> None:
    """Goal: no failure that looks like the job's. Method: a second database in memory, beside one in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def attach(connection: Any, _: Any) -> None:
        connection.execute("ATTACH DATABASE ':memory:' AS billing")

    def nothing(db: Any) -> None:
        return None

    with pytest.raises(idemfuzz.Unusable, match="'billing' is attached, which is in memory, too"):
        idemfuzz.check(lambda: nothing(engine), job=nothing, stores={"db": engine})
