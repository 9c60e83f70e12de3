"""A delivery that does not come back out of its driver: it is broken off at the server, and the search goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from idemfuzz import check

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("email", sa.String(80), primary_key=True))

# Each takes half a minute or more by itself.
_ENDLESS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000000) SELECT max(i) FROM n",
    "postgresql": "SELECT pg_sleep(60)",
    "mysql": "SELECT sleep(60)",
}
_URLS = ["sqlite", "postgresql", "mysql"]


def _jobs(engine: sa.Engine) -> dict[str, Callable[[], None]]:
    endless = sa.text(_ENDLESS[{"mariadb": "mysql"}.get(engine.dialect.name, engine.dialect.name)])

    def known(connection: sa.Connection) -> bool:
        return connection.execute(sa.select(users)).first() is not None

    def in_a_transaction() -> None:
        with engine.begin() as connection:
            if known(connection):
                connection.execute(endless)
            connection.execute(users.insert().values(email="a@b"))

    def after_a_write() -> None:
        with engine.begin() as connection:
            again = known(connection)
            connection.execute(users.insert().values(email="c@d" if again else "a@b"))
            if again:
                connection.execute(endless)

    return {job.__name__: job for job in (in_a_transaction, after_a_write)}


@pytest.mark.slow
@pytest.mark.parametrize("sql_url", _URLS, indirect=True)
@pytest.mark.parametrize("name", ["in_a_transaction", "after_a_write"])
def test_a_statement_without_end_is_broken_off(engine: Any, name: str) -> None:
    """Goal: ``timeout`` ends a delivery also where its thread is inside the driver, on every server."""
    metadata.create_all(engine)
    job = _jobs(engine)[name]
    report = check(job, job=job, stores={"db": engine}, timeout=1.0, faults=["duplicate"])
    assert report.codes == ("IDM304",), [str(note) for note in report.notes]
    with engine.begin() as connection:
        assert connection.execute(sa.select(users)).all() == []


@pytest.mark.slow
@pytest.mark.parametrize("sql_url", ["postgresql", "mysql"], indirect=True)
def test_a_wait_for_a_lock_that_nobody_gives_back_is_broken_off(engine: Any) -> None:
    """A second connection of the same delivery holds the lock, so no server calls it a deadlock."""
    metadata.create_all(engine)

    def job() -> None:
        with engine.begin() as connection:
            again = connection.execute(sa.select(users)).first() is not None
        with engine.begin() as connection:
            if not again:
                connection.execute(users.insert().values(email="a@b"))
                return
            connection.execute(users.update().values(email="c@d"))
            with engine.begin() as other:
                other.execute(users.update().values(email="e@f"))

    report = check(job, job=job, stores={"db": engine}, timeout=1.0, faults=["duplicate"])
    assert report.codes == ("IDM304",), [str(note) for note in report.notes]


@pytest.mark.slow
@pytest.mark.parametrize("sql_url", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize(
    ("name", "codes"), [("counted_again", ("IDM101", "IDM102")), ("counted_once", ())], ids=["wrong", "right"]
)
def test_a_coroutine_may_wait_for_a_lock_in_a_driver_that_blocks(
    engine: Any, name: str, codes: tuple[str, ...]
) -> None:
    """Goal: a synchronous engine in an `async def` job does not stop the search. Method: both deliveries update one row."""
    counters = sa.Table(
        "counters",
        sa.MetaData(),
        sa.Column("n", sa.Integer, primary_key=True),
        sa.Column("value", sa.Integer),
    )
    metadata.create_all(engine)
    counters.create(engine)
    with engine.begin() as connection:
        connection.execute(counters.insert().values(n=1, value=0))

    async def counted_again() -> None:
        with engine.begin() as connection:
            connection.execute(counters.update().values(value=counters.c.value + 1))
            await asyncio.sleep(0)
            connection.execute(sa.select(users)).all()

    async def counted_once() -> None:
        with engine.begin() as connection:
            connection.execute(counters.update().values(value=1))
            await asyncio.sleep(0)
            if connection.execute(sa.select(users)).first() is None:
                connection.execute(users.insert().values(email="a@b"))

    job = {"counted_again": counted_again, "counted_once": counted_once}[name]
    report = check(lambda: asyncio.run(job()), job=job, stores={"db": engine})
    assert set(report.codes) <= set(codes), [str(finding) for finding in report.findings]
    assert report.verdict == ("violated" if codes else "holds"), [str(note) for note in report.notes]
    (interleave,) = (part for part in report.certificate.coverage if part.explorer == "interleave")
    assert interleave.exhaustive
    assert interleave.classes is not None
    assert interleave.classes >= 2
