"""Exported tests: for each kind of finding one that runs, fails for its reason, and reads as ruff leaves it."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fuzz.test_fuzz_command import ROOT, Run, environment, findings, idemfuzz, project, start
from idemfuzz.abc import Unusable
from idemfuzz.fuzz.source_text import LINE, Imports, import_lines, literal, rendered, with_imports

__all__ = ["ROOT", "environment", "idemfuzz", "project", "start"]


class Kind(enum.Enum):
    CASH = "cash"


@dataclasses.dataclass
class Payment:
    key: uuid.UUID
    kind: Kind
    parts: list[int]
    note: str = ""


class Pair(NamedTuple):
    one: int
    other: str


VALUES: list[Any] = [
    "plain",
    "it's",
    'say "so"',
    "back\\slash\n",
    b"\x00\xff'",
    (1,),
    (),
    {"a": [1, 2, {"deep": (None, True)}]},
    {1, 2},
    set(),
    frozenset({"x"}),
    1e300,
    -0.5,
    float("inf"),
    decimal.Decimal("1.50"),
    uuid.UUID(int=7),
    datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    datetime.timedelta(days=1),
    Kind.CASH,
    Pair(1, "b"),
    Payment(uuid.UUID(int=1), Kind.CASH, list(range(3))),
    [Payment(uuid.UUID(int=n), Kind.CASH, list(range(20)), "x" * 30) for n in range(3)],
    {f"key{n}": ["word"] * n for n in range(12)},
    [["ab"] * 30, {"name" * 5: "value" * 20, "other": Pair(2, "long" * 25)}],
]


def ruff(*arguments: str, text: str) -> str:
    """What ruff's defaults have to say of a text; nothing, if all is well."""
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_a_value_is_written_so_that_python_reads_it_and_ruff_leaves_it() -> None:
    imports = Imports()
    texts = [rendered(literal(value, imports), "", "value = ") for value in VALUES]
    body = "\n".join(f"value = {text}" for text in texts)
    head = "\n".join(import_lines(imports.statements(), ROOT))
    assert ruff("format", "--diff", text=f"{head}\n\n{body}\n") == ""
    names: dict[str, Any] = {}
    exec(head, names)
    for value, text in zip(VALUES, texts, strict=True):
        assert eval(text, names) == value
    assert max(map(len, body.splitlines())) <= max(LINE, len('        "value": "",') + 5 * 25)


class TestImports:
    def wanted(self, *names: str, module: str = "shop.jobs") -> Imports:
        imports = Imports()
        imports.module("pytest")
        for name in names:
            imports.name(module, name)
        return imports

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("x = 1\n", "import pytest\n\nfrom shop.jobs import pay\n\n\nx = 1\n"),
            ('"""Doc."""\n\nx = 1\n', '"""Doc."""\n\nimport pytest\n\nfrom shop.jobs import pay\n\nx = 1\n'),
            (
                "import pytest\n\nfrom shop.jobs import engine\n\nx = 1\n",
                "import pytest\n\nfrom shop.jobs import engine, pay\n\nx = 1\n",
            ),
            (
                "import os\n\nfrom shop import jobs\n\nx = 1\n",
                "import os\n\nimport pytest\n\nfrom shop import jobs\nfrom shop.jobs import pay\n\nx = 1\n",
            ),
            (
                "import pytest\n\nfrom shop.jobs import (\n    engine,  # a word\n)\n",
                "import pytest\n\nfrom shop.jobs import (\n    engine,  # a word\n)\nfrom shop.jobs import pay\n",
            ),
            (
                "from __future__ import annotations\n\nimport pytest\n\nfrom shop.jobs import pay\n",
                "from __future__ import annotations\n\nimport pytest\n\nfrom shop.jobs import pay\n",
            ),
        ],
    )
    def test_what_is_lacking_goes_beside_its_like(self, tmp_path: Path, before: str, after: str) -> None:
        (tmp_path / "shop").mkdir()
        assert with_imports(before, self.wanted("pay"), tmp_path) == after

    @pytest.mark.parametrize(
        "before",
        [
            "def engine():\n    pass\n",
            "from billing import engine\n",
            "engine = 1\n",
            "from shop.jobs import x as engine\n",
        ],
    )
    def test_a_name_that_means_something_else_is_refused(self, tmp_path: Path, before: str) -> None:
        with pytest.raises(Unusable, match="engine is something else there"):
            with_imports(before, self.wanted("engine"), tmp_path)


JOBS = """
import dataclasses
import datetime
import decimal
import enum
import uuid

import fakeredis
import sqlalchemy as sa
from hypothesis import strategies as st

import idemfuzz

metadata = sa.MetaData()
orders = sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("note", sa.String(200)))
stock = sa.Table("stock", metadata, sa.Column("item", sa.String(20), primary_key=True), sa.Column("left", sa.Integer))
engine = sa.create_engine("sqlite:///test_shop.db")
metadata.create_all(engine)
cache = fakeredis.FakeRedis()


class Kind(enum.Enum):
    CARD = "card"


@dataclasses.dataclass(frozen=True)
class Payment:
    key: uuid.UUID
    amount: decimal.Decimal
    at: datetime.datetime
    kind: Kind
    blob: bytes = b""


def add(note):
    with engine.begin() as connection:
        connection.execute(orders.insert().values(note=str(note)))


def hinted(numbers: list[int]):
    for number in numbers:
        add(number)


def raced(note: str):
    with engine.begin() as connection:
        there = connection.execute(orders.select().where(orders.c.note == note)).first()
    if there is None:
        add(note)


def fill(state):
    with engine.begin() as connection:
        for item, left in state.items():
            connection.execute(stock.insert().values(item=item, left=left))


def take(item):
    if not cache.set(f"taken:{item}", "1", nx=True):
        return
    with engine.begin() as connection:
        connection.execute(stock.update().where(stock.c.item == item).values(left=stock.c.left - 1))


def leased(item):
    if cache.set(f"lease:{item}", "1", nx=True, ex=60):
        add(item)


async def waits(note):
    add(note)


def pay(payment):
    add(payment.key)


def login(user, password):
    add(user)


def loud(note):
    with engine.connect() as connection:
        if connection.execute(orders.select().where(orders.c.note == note)).first():
            raise RuntimeError("seen before")
    add(note)


class Service:
    def work(self, number):
        add(number)


idemfuzz.register(hinted, stores=[engine])
idemfuzz.register(raced, args=["a"], stores=[engine], faults=["overlap"])
idemfuzz.register(take, args=["apple"], state=st.fixed_dictionaries({"apple": st.integers(1, 9)}), setup=fill, stores=[engine, cache])
idemfuzz.register(leased, args=["b"], stores={"db": engine, "cache": cache}, faults=["late"])
idemfuzz.register(waits, args=["c"], stores=[engine])
idemfuzz.register(
    pay,
    args=[st.builds(Payment, st.uuids(), st.decimals(0, 9, places=2), st.datetimes(timezones=st.just(datetime.UTC)), st.sampled_from(Kind), st.binary(max_size=2))],
    stores=[engine],
)
idemfuzz.register(login, args=[st.just("eve")], kwargs={"password": st.just("hunter2hunter2")}, stores=[engine])
idemfuzz.register(loud, args=["d"], stores=[engine], strict=True, faults=["duplicate"])
idemfuzz.register(Service().work, args=lambda n: (n,), stores=lambda: [engine])
"""

TESTS = """
import dataclasses

import jobs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@dataclasses.dataclass
class Own:
    number: int


@pytest.fixture
def engine():
    return jobs.engine


@pytest.mark.idempotent(job=jobs.add)
@settings(max_examples=3)
@given(own=st.builds(Own, st.just(1)))
@pytest.mark.asyncio
async def test_own(engine, own):
    \'\'\'What it was for.\'\'\'
    # A comment.
    jobs.add(own.number)


class TestGroup:
    @pytest.mark.idempotent(
        job=jobs.add,
        stores=["engine"],
    )
    def test_inside(self, engine):
        text = \'\'\'
  as it is
\'\'\'
        jobs.add(text)
""".replace("\\'", "'")


@pytest.mark.slow
def test_each_kind_of_finding_is_exported_as_a_test_that_fails_for_its_reason(
    idemfuzz: Run, project: Path, environment: dict[str, str]
) -> None:
    """Goal: the whole way, for every kind. Method: search, export all into two files, hold them against ruff, run them."""
    (project / "jobs.py").write_text(JOBS)
    (project / "test_jobs.py").write_text(TESTS)
    idemfuzz("run", "jobs", "test_jobs.py", "-q")
    found = findings(project)
    wanted = {"hinted", "raced", "take", "leased", "waits", "pay", "login", "loud", "Service.work"}
    targets = {data["target"] for data in found.values()}
    assert targets == {f"jobs:{name}" for name in wanted} | {
        "test_jobs.py::test_own",
        "test_jobs.py::TestGroup::test_inside",
    }
    for identity, data in found.items():
        file = "test_jobs.py" if data["is_test"] else "test_regression.py"
        done = idemfuzz("export", identity, "-o", file)
        assert done.returncode == 0, done.stdout
        again = idemfuzz("export", identity, "-o", file)
        assert again.returncode == 2
        assert "has this test already" in again.stdout
    text = (project / "test_regression.py").read_text()
    assert ruff("format", "--diff", text=text) == ""
    assert ruff("check", "--ignore=I001", text=text) == ""
    assert '# "***" stands for what was hidden' in text
    assert "kind=Kind.CARD" in text
    assert "strict=True" in text
    assert "await waits(" in text
    inside = (project / "test_jobs.py").read_text()
    assert "    def test_inside_delivered_twice(self, engine):" in inside
    assert inside.count("# A comment.") == 2
    assert "own = Own(number=1)" in inside
    # Each fails by the code that it was exported for; the one that goes through its registration is a plain test.
    done = idemfuzz("run", "test_regression.py", "test_jobs.py", "--report", "json=run.json", "-q")
    report = json.loads((project / "run.json").read_text())
    codes = sorted(
        f["code"] for one in report["reports"] for f in one["findings"] if one["name"] != "jobs.py::test_own"
    )
    assert done.returncode == 1
    shown = {one["name"].rpartition("::")[2] for one in report["reports"] if one["findings"]}
    exported = {
        line.split("def ")[1].split("(")[0] for line in (text + inside).splitlines() if "def test_" in line
    }
    assert shown == exported - {"test_work_delivered_twice"}, done.stdout
    assert set(codes) >= {data["code"] for data in found.values()}
    plain = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "test_regression.py::test_work_delivered_twice",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert plain.returncode == 1
    assert "report.holds" in plain.stdout
