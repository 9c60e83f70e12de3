"""Every built-in store passes the suite, fakes and real servers alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from idemfuzz.abc import Options
from idemfuzz.adapters.containers import ContainersAdapter
from idemfuzz.adapters.files import FilesAdapter
from idemfuzz.adapters.redis import RedisAdapter
from idemfuzz.adapters.sqlalchemy import SqlAlchemyAdapter
from idemfuzz.testing import StoreConformance, StoreSubject

sqlalchemy = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
redis = pytest.importorskip("redis")

METADATA = sqlalchemy.MetaData()
ITEMS = sqlalchemy.Table(
    "items",
    METADATA,
    sqlalchemy.Column("id", sqlalchemy.Integer, primary_key=True, autoincrement=True),
    sqlalchemy.Column("number", sqlalchemy.Integer),
)


JOURNAL = Options(full_read_rows_max=0)


def sql_subject(engine: Any, options: Options = Options()) -> StoreSubject:  # noqa: B008  # It is frozen.
    METADATA.create_all(engine)

    def write(item: int) -> None:
        with engine.begin() as connection:
            connection.execute(ITEMS.insert().values(number=item))

    def begin(item: int) -> object:
        connection = engine.connect()
        connection.execute(ITEMS.insert().values(number=item))
        return connection

    def remove(item: int) -> None:
        with engine.begin() as connection:
            connection.execute(ITEMS.delete().where(ITEMS.c.number == item))

    def generate() -> Any:
        with engine.begin() as connection:
            return connection.execute(ITEMS.insert().values(number=77)).inserted_primary_key[0]

    def look() -> set[int]:
        with engine.connect() as connection:
            return set(connection.scalars(sqlalchemy.select(ITEMS.c.number)))

    return StoreSubject(
        adapter=SqlAlchemyAdapter(),
        value=engine,
        write=write,
        look=look,
        remove=remove,
        read=look,
        begin=begin,
        generate=generate,
        same=[engine.execution_options(echo=False), orm.sessionmaker(engine), orm.Session(engine)],
        other=[sqlalchemy.create_engine("sqlite:///another-test.db"), sqlalchemy.create_engine("sqlite://")],
        strangers=[orm.sessionmaker(), orm.Session(), METADATA, ITEMS],
        errors=(sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError),
        patches=[engine.dialect, sqlalchemy.engine.base, sqlalchemy.engine.default],
        options=options,
    )


class TestSqlAlchemy(StoreConformance):
    """Core and ORM on SQLite (file and memory), PostgreSQL and MariaDB."""

    @pytest.fixture
    def subject(self, engine: Any) -> StoreSubject:
        return sql_subject(engine)


class TestSqlAlchemyWithJournal(StoreConformance):
    """The same, where triggers tell what a trial changed."""

    @pytest.fixture
    def subject(self, engine: Any) -> StoreSubject:
        return sql_subject(engine, JOURNAL)


@pytest.mark.parametrize("options", [Options(), JOURNAL], ids=["read", "journal"])
@pytest.mark.parametrize("sql_url", ["postgresql"], indirect=True)
class TestPsycopg2(StoreConformance):
    @pytest.fixture
    def subject(self, sql_url: str, options: Options) -> Iterator[StoreSubject]:
        pytest.importorskip("psycopg2")
        url = sqlalchemy.make_url(sql_url).set(drivername="postgresql+psycopg2")
        engine = sqlalchemy.create_engine(url)
        yield sql_subject(engine, options)
        engine.dispose()


class TestRedis(StoreConformance):
    """redis-py on fakeredis and on a real server."""

    @pytest.fixture
    def subject(self, redis_client: Any) -> StoreSubject:
        client = redis_client
        settings = dict(client.connection_pool.connection_kwargs)
        # A neighbour of the lent database, whichever that is; it is never written to.
        settings["db"] = (settings.get("db", 0) + 1) % 16
        elsewhere = type(client)(
            connection_pool=type(client.connection_pool)(
                connection_class=client.connection_pool.connection_class, **settings
            )
        )
        return StoreSubject(
            adapter=RedisAdapter(),
            value=client,
            write=lambda item: client.set(f"item:{item}", item),
            look=lambda: {int(key.rpartition(b":")[2]) for key in client.scan_iter("item:*")},
            remove=lambda item: client.delete(f"item:{item}"),
            read=lambda: client.get("item:0"),
            expire=lambda item, seconds: client.set(f"item:{item}", item, px=int(seconds * 1000)),
            same=[type(client)(connection_pool=client.connection_pool)],
            other=[elsewhere],
            strangers=[client.pipeline(), client.connection_pool, client.lock("x")],
            errors=(redis.exceptions.ConnectionError,),
            patches=[redis.client, redis.commands.core],
        )


class TestRedisTransactions(StoreConformance):
    """MULTI, as one effect."""

    @pytest.fixture
    def subject(self, redis_client: Any) -> StoreSubject:
        client = redis_client

        def write(item: int) -> None:
            with client.pipeline() as pipe:
                pipe.set(f"item:{item}", item)
                pipe.rpush(f"log:{item}", "written")
                pipe.execute()

        return StoreSubject(
            adapter=RedisAdapter(),
            value=client,
            write=write,
            look=lambda: {int(key.rpartition(b":")[2]) for key in client.scan_iter("item:*")},
            errors=(redis.exceptions.ConnectionError,),
            patches=[redis.client, redis.commands.core],
        )


class TestFiles(StoreConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> StoreSubject:
        folder = tmp_path / "out"
        folder.mkdir()
        (tmp_path / "elsewhere").mkdir()

        return StoreSubject(
            adapter=FilesAdapter(),
            value=folder,
            write=lambda item: (folder / f"{item}.txt").write_text("done"),
            look=lambda: {int(path.stem) for path in folder.iterdir() if path.read_text() == "done"},
            remove=lambda item: (folder / f"{item}.txt").unlink(),
            same=[folder / ".." / "out", Path(str(folder))],
            other=[tmp_path / "elsewhere"],
            strangers=[str(folder), folder / "nowhere", Path.cwd(), Path.home()],
        )


@pytest.mark.parametrize("kind", [list, set, deque, dict])
class TestContainers(StoreConformance):
    """What fixtures hand in to be filled: compared and restored, but not watched."""

    @pytest.fixture
    def subject(self, kind: Any) -> StoreSubject:
        value: Any = kind()

        def write(item: int) -> None:
            if kind is dict:
                value[item] = "x"
            else:
                (value.add if kind is set else value.append)(item)

        return StoreSubject(
            adapter=ContainersAdapter(),
            value=value,
            write=write,
            look=lambda: set(value),
            remove=lambda item: value.pop(item) if kind is dict else value.remove(item),
            same=[value],
            other=[[], {}, set(), deque()],
            strangers=[(), frozenset()],
            effects=False,
        )
