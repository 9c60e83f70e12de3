"""`idemfuzz fuzz`, `replay` and `export` in fresh processes: nothing that was found is lost, whatever ends a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

JOBS = """
import sqlalchemy as sa
from hypothesis import strategies as st

import idemfuzz

metadata = sa.MetaData()
users = sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80)))
members = sa.Table("members", metadata, sa.Column("email", sa.String(80), primary_key=True))
engine = sa.create_engine("sqlite:///test_shop.db")
with engine.begin() as connection:
    # Parts of a campaign import this at the same time.
    for table in (users, members):
        connection.execute(sa.schema.CreateTable(table, if_not_exists=True))


def right(email):
    try:
        with engine.begin() as connection:
            connection.execute(members.insert().values(email=email))
    except sa.exc.IntegrityError:
        pass


def picky(email: str):
    if len(email) > 3:
        with engine.begin() as connection:
            connection.execute(users.insert().values(email=email))
    else:
        right(email)


idemfuzz.register(right, args=[st.text("ab", max_size=9)], stores=[engine])
idemfuzz.register(picky, args=[st.text("ab", max_size=9)], stores=[engine])
"""

MEND = JOBS.replace("if len(email) > 3:", "if False:")

TESTS = """
import jobs
import pytest
from hypothesis import given, strategies as st


@pytest.fixture
def engine():
    return jobs.engine


@pytest.mark.idempotent(job=jobs.picky)
@given(st.text("ab", max_size=9))
def test_picky(engine, email):
    # A comment that stays.
    jobs.picky(email)


@pytest.mark.idempotent(job=jobs.right)
def test_right(engine):
    jobs.right("a")
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment() -> dict[str, str]:
    dropped = ("PYTEST_", "COV_", "IDEMFUZZ_", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "test_jobs.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    return tmp_path


@pytest.fixture
def start(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "idemfuzz.cli", *arguments],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What a shell runs in the background ignores the signal, and hands that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def idemfuzz(start: Callable[..., subprocess.Popen[str]]) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments)
        output, _ = process.communicate(timeout=280)
        return subprocess.CompletedProcess(arguments, process.returncode, output)

    return run


def findings(project: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in project.glob(".idemfuzz/*/IDM*.json"):
        data = json.loads(path.read_text())
        found[data["id"]] = data
    return found


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_finds_replays_exports_and_sees_the_mend(idemfuzz: Run, project: Path) -> None:
    """Goal: the whole way of a finding. Method: fuzz, replay, export as a test that fails, mend, replay, fuzz again."""
    done = idemfuzz(
        "fuzz",
        "jobs",
        "test_jobs.py",
        "--max-findings",
        "2",
        "--max-time",
        "4m",
        "--report",
        "json=fuzz.json",
    )
    assert done.returncode == 1, done.stdout
    assert "Findings: 2 new" in done.stdout
    assert "fault points struck" in done.stdout
    report = json.loads((project / "fuzz.json").read_text())
    assert {f["target"] for f in report["findings"]} == {"jobs:picky", "test_jobs.py::test_picky"}
    found = findings(project)
    assert {
        f["example"]["args"][0] if f["example"]["args"] else f["example"]["kwargs"]["email"]
        for f in found.values()
    } == {"aaaa"}

    done = idemfuzz("replay")
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("STILL FAILING") == 2

    by_target = {f["target"]: identity for identity, f in found.items()}
    done = idemfuzz("export", by_target["jobs:picky"], "-o", "test_regression.py")
    assert done.returncode == 0, done.stdout
    text = (project / "test_regression.py").read_text()
    assert 'picky("aaaa")' in text
    assert "def test_picky_delivered_twice():" in text
    assert (
        "has this test already"
        in idemfuzz("export", by_target["jobs:picky"], "-o", "test_regression.py").stdout
    )
    done = idemfuzz("export", by_target["test_jobs.py::test_picky"], "-o", "test_jobs.py")
    assert done.returncode == 0, done.stdout
    text = (project / "test_jobs.py").read_text()
    assert text.count("# A comment that stays.") == 2
    assert 'email = "aaaa"' in text
    exported = ["test_regression.py", "test_jobs.py::test_picky_delivered_twice"]
    assert "2 violated" in idemfuzz("run", *exported).stdout

    (project / "jobs.py").write_text(MEND)
    done = idemfuzz("run", *exported)
    assert done.returncode == 0, done.stdout
    done = idemfuzz("replay")
    assert done.returncode == 0, done.stdout
    # The exported tests have failed once, too.
    assert "4 fixed, 0 still failing, 0 changed" in done.stdout
    done = idemfuzz("fuzz", "jobs:picky", "--max-time", "20s")
    assert done.returncode == 0, done.stdout
    assert "Findings: 0 new" in done.stdout


def test_a_kill_at_any_moment_loses_no_finding(
    start: Callable[..., subprocess.Popen[str]], idemfuzz: Run, project: Path
) -> None:
    """Goal: SIGKILL loses nothing. Method: kill it right after the finding's file is there, before it is made small; go on."""
    process = start("fuzz", "jobs", "--max-time", "4m")
    until(lambda: bool(findings(project)), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (before,) = findings(project)
    done = idemfuzz("fuzz", "jobs", "--max-time", "20s", "--continue")
    assert done.returncode == 1, done.stdout
    assert f"[{before}]: STILL FAILING" in done.stdout
    assert set(findings(project)) == {before}
    state = json.loads((project / ".idemfuzz" / "fuzz" / "state.json").read_text())
    assert state["targets"]["jobs:picky"]["trials"] > 0


def test_ctrl_c_ends_it_cleanly_and_it_goes_on(
    start: Callable[..., subprocess.Popen[str]], idemfuzz: Run, project: Path
) -> None:
    process = start("fuzz", "jobs:right", "--max-time", "4m")
    state = project / ".idemfuzz" / "fuzz" / "state.json"
    until(state.exists, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert "Stopped by Ctrl-C" in output
    assert process.returncode == 0, output
    before = json.loads(state.read_text())
    done = idemfuzz("fuzz", "jobs:right", "--max-time", f"{before['seconds'] + 1:.0f}s", "--continue")
    assert done.returncode == 0, done.stdout
    after = json.loads(state.read_text())
    assert after["targets"]["jobs:right"]["trials"] >= before["targets"]["jobs:right"]["trials"]
    assert after["seconds"] >= before["seconds"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fuzz", "nope"), "neither a path here"),
        (("fuzz", "jobs", "--max-time", "soon"), "soon"),
        (("fuzz", "jobs", "--max-time", "0s"), "leaves no time"),
        (("fuzz", "jobs", "--shard", "3/2"), "expected I/N"),
        (("fuzz", "jobs", "--profile", "nigthly"), "did you mean 'nightly'"),
        (("fuzz", "jobs", "--report", "xml=a"), "expected json=FILE"),
        (("replay", "0000"), "names no finding"),
        (("export", "0000"), "names no finding"),
        (("baseline", "0000", "--reason", "x"), "names no finding"),
        (("baseline", "--until", "soon", "x"), "is no date"),
        (("baseline", "--until", "99999999999d", "x"), "is no date"),
        (("baseline", "x"), "--reason is needed"),
    ],
)
def test_misuse_ends_with_2_and_says_why(idemfuzz: Run, arguments: tuple[str, ...], message: str) -> None:
    done = idemfuzz(*arguments)
    assert done.returncode == 2, done.stdout
    assert message in done.stdout


def test_a_finding_whose_target_is_gone_is_told(idemfuzz: Run, project: Path) -> None:
    folder = project / ".idemfuzz" / "x"
    folder.mkdir(parents=True)
    data = {
        "idemfuzz_finding": 2,
        "id": "abc",
        "code": "IDM101",
        "summary": "",
        "plan": {
            "version": 1,
            "deliveries": 2,
            "identity": "same",
            "call": None,
            "faults": [],
            "overlap": [],
            "late_seconds": 0,
        },
    }
    (folder / "a.json").write_text(json.dumps({**data, "target": "no_such_module:job"}))
    (folder / "b.json").write_text(
        json.dumps({**data, "id": "abd", "target": "test_jobs.py::test_gone", "is_test": True})
    )
    done = idemfuzz("replay")
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("GONE") == 2


def test_a_job_that_is_gone_from_its_module_stops_no_other(idemfuzz: Run, project: Path) -> None:
    """Renamed; and then the module itself is broken, which is told without a traceback."""
    (project / "jobs.py").write_text(JOBS.replace("len(email) > 3", "True"))
    idemfuzz("run", "jobs:picky", "-q")
    (found,) = findings(project).values()
    folder = project / ".idemfuzz" / "other"
    folder.mkdir()
    other = {**found, "id": "0ther", "target": "jobs:renamed"}
    (folder / "a.json").write_text(json.dumps(other))
    done = idemfuzz("replay", "--report", "json=replay.json")
    assert done.returncode == 1, done.stdout
    assert "1 still failing, 0 changed, 1 gone" in done.stdout
    report = json.loads((project / "replay.json").read_text())
    assert {one["id"]: one["fate"] for one in report["replayed"]} == {
        found["id"]: "STILL FAILING",
        "0ther": "GONE",
    }
    (project / "jobs.py").write_text("nonsense")
    for command in (("replay",), ("export", found["id"]), ("run", "jobs")):
        done = idemfuzz(*command)
        assert done.returncode == 2, done.stdout
        assert "name 'nonsense' is not defined" in done.stdout
        assert "Traceback" not in done.stdout


def test_what_is_accepted_fails_nothing_until_its_end(
    idemfuzz: Run, project: Path, environment: dict[str, str]
) -> None:
    """Goal: the baseline counts wherever a search is judged. Method: a job with drawn arguments and two tests, by `run` and by pytest."""
    (project / "test_jobs.py").write_text(
        TESTS
        + "\n\n@pytest.mark.idempotent(job=jobs.picky)\ndef test_plain(engine):\n    jobs.picky('aaaa')\n"
    )
    (project / "jobs.py").write_text(JOBS.replace("len(email) > 3", "True"))
    (project / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n[tool.idemfuzz]\nmax_trials = 30\nmax_examples = 2\n"
    )
    everything = ("run", "jobs", "test_jobs.py", "-q")
    assert "3 violated" in idemfuzz(*everything).stdout
    done = idemfuzz("baseline", "IDM101", "--reason", "it is known", "--until", "30d")
    assert done.returncode == 0, done.stdout
    done = idemfuzz("run", "jobs", "test_jobs.py")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("holds, but for what is accepted (IDM101)") == 3
    assert done.stdout.count("it is known") == 3
    command = [sys.executable, "-m", "pytest", "-q", "test_jobs.py"]
    plain = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert plain.returncode == 0, plain.stdout
    # One plan alone is asked for to be seen; and texts for a tracker are of what nobody has accepted.
    assert idemfuzz("run", "jobs:picky", "--plan", "v1:x2").returncode == 1
    assert "no findings" in idemfuzz("issues", "--summary").stdout
    path = project / "idemfuzz-baseline.json"
    data = json.loads(path.read_text())
    for one in data["accepted"]:
        one["until"] = "2020-01-01"
    path.write_text(json.dumps(data))
    done = idemfuzz("run", "jobs:picky", "test_jobs.py::test_plain")
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("it was accepted until 2020-01-01") == 2


def test_what_is_accepted_hides_nothing_that_another_example_shows(idemfuzz: Run, project: Path) -> None:
    """One job with two bugs, each for some of its examples: as a registered job, as a marked test, and by a campaign."""
    (project / "jobs.py").write_text(
        JOBS.replace(
            "    else:\n        right(email)",
            "    elif not email:\n        right(email)\n    else:\n        other(email)",
        )
        + """

orders = sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.String(80)))
orders.create(engine, checkfirst=True)


def other(email):
    with engine.begin() as connection:
        connection.execute(orders.insert().values(email=email))
"""
    )
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\n[tool.idemfuzz]\nmax_trials = 6\n")
    searched = ("jobs:picky", "test_jobs.py::test_picky")
    for _ in range(2):
        done = idemfuzz("run", *searched, "-q")
        assert "2 violated" in done.stdout
        assert idemfuzz("baseline", "IDM101", "--reason", "it is known").returncode == 0
    found = findings(project).values()
    assert sorted(str(one["places"]) for one in found) == [
        "['db/orders']",
        "['db/users']",
        "['engine/orders']",
        "['engine/users']",
    ]
    done = idemfuzz("run", *searched, "-q")
    assert done.returncode == 0, done.stdout
    baseline = project / "idemfuzz-baseline.json"
    data = json.loads(baseline.read_text())
    hidden = {one["id"] for one in found if "users" in one["places"][0]}
    baseline.write_text(
        json.dumps({**data, "accepted": [one for one in data["accepted"] if one["id"] in hidden]})
    )
    done = idemfuzz("fuzz", "jobs:picky", "--max-time", "20s")
    assert done.returncode == 1, done.stdout
    assert "1 known and still failing" in done.stdout
    assert "1 accepted" in done.stdout


def test_nothing_is_claimed_of_values_that_were_hidden(idemfuzz: Run, project: Path) -> None:
    """The job fails for long passwords, and what stands for one in the file is short: that is no mend."""
    (project / "jobs.py").write_text(
        JOBS
        + """

def login(password: str):
    picky(password)


idemfuzz.register(login, args=[st.text("ab", max_size=9)], stores=[engine])
"""
    )
    idemfuzz("run", "jobs:login", "-q")
    (found,) = findings(project).values()
    assert found["is_redacted"]
    done = idemfuzz("replay")
    assert done.returncode == 1, done.stdout
    assert "CHANGED" in done.stdout
    assert "hidden" in done.stdout


@pytest.mark.parametrize(
    "command", [("replay",), ("replay", ".idemfuzz"), ("issues", ".idemfuzz"), ("issues", "--summary")]
)
def test_a_corpus_that_is_not_there_yet_is_empty(idemfuzz: Run, command: tuple[str, ...]) -> None:
    """As in the first run of a pipeline."""
    done = idemfuzz(*command)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("parts", [(), ("-n", "2")])
def test_a_campaign_that_searched_nothing_is_no_pass(idemfuzz: Run, parts: tuple[str, ...]) -> None:
    """Goal: a pass in which nothing happened is none. Method: a budget that is over before the first search can end."""
    done = idemfuzz("fuzz", "jobs", "-k", "right", "--max-time", "1ms", *parts)
    assert done.returncode == 2, done.stdout
    assert "nothing can be claimed" in done.stdout, done.stdout


@pytest.mark.parametrize("parts", [(), ("-n", "2")])
def test_a_job_that_fails_with_each_example_is_no_pass(
    idemfuzz: Run, project: Path, parts: tuple[str, ...]
) -> None:
    """Beside one that holds: what was never searched is named, and the campaign does not end with 0."""
    (project / "jobs.py").write_text(
        JOBS.replace("def picky(email: str):", "def picky(email: str):\n    raise LookupError(email)\n")
    )
    done = idemfuzz("fuzz", "jobs", "--max-time", "10s", *parts)
    assert done.returncode == 2, done.stdout
    assert "Nothing can be claimed of jobs:picky" in done.stdout
    assert "jobs:picky: was not searched, as it fails without any duplicate with each of" in done.stdout


SKIPPED = """
import jobs
import pytest


@pytest.mark.skip(reason="until the move is done")
@pytest.mark.idempotent(job=jobs.right)
def test_skipped(engine):
    raise AssertionError("it is skipped")
"""


@pytest.mark.parametrize("parts", [(), ("-n", "2")])
def test_what_is_skipped_is_told_and_is_no_trouble(
    idemfuzz: Run, project: Path, parts: tuple[str, ...]
) -> None:
    """Goal: as with `run`, whoever skips a test wants no search of it. Method: beside one that holds, and alone."""
    (project / "test_skipped.py").write_text(SKIPPED)
    done = idemfuzz("fuzz", "jobs:right", "test_skipped.py", "--max-time", "20s", *parts)
    assert done.returncode == 0, done.stdout
    assert "test_skipped.py::test_skipped: skipped: until the move is done" in done.stdout
    done = idemfuzz("fuzz", "test_skipped.py", "--max-time", "4s", *parts)
    assert done.returncode == 2, done.stdout
    assert "Nothing was searched: 1 test skipped." in done.stdout


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"tool = 3", "tool=3 is not usable; expected tables [tool.NAME]"),
        (b"[tool]\nidemfuzz = 3", "tool.idemfuzz=3 is not usable; expected a table"),
        (b"[tool.idemfuzz]\n# \xff", "pyproject.toml cannot be read: 'utf-8' codec"),
        (b"[tool.idemfuzz", "Expected ']' at the end of a table declaration"),
        (b"[tool.idemfuzz.fuzz]\nprocesses = 0", "[tool.idemfuzz.fuzz]: processes=0 is not usable"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_all(
    idemfuzz: Run, project: Path, environment: dict[str, str], written: bytes, message: str
) -> None:
    """pytest reads the file, too: where it cannot, plain pytest ends by itself, before any plugin has a say."""
    (project / "pyproject.toml").write_bytes(written)
    for command in (("run", "test_jobs.py"), ("fuzz", "jobs", "-n", "2"), ("fuzz", "test_jobs.py")):
        done = idemfuzz(*command)
        assert done.returncode == 2, done.stdout
        assert message in done.stdout
        assert "Traceback" not in done.stdout
    if b"idemfuzz = 3" in written or b"processes = 0" in written:
        plain = [sys.executable, "-m", "pytest", "-q", "test_jobs.py"]
        ended = subprocess.run(plain, cwd=project, env=environment, capture_output=True, text=True)
        assert ended.returncode == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: {project / 'pyproject.toml'}: " in ended.stdout + ended.stderr
        assert message in ended.stdout + ended.stderr


def test_the_table_is_that_of_the_root_folder_wherever_it_is_called(
    project: Path, environment: dict[str, str]
) -> None:
    """Goal: one home for what the table says. Method: in a folder below it, with the number of processes, findings and the time."""
    (project / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\n[tool.idemfuzz.fuzz]\nprocesses = 2\nmax_findings = 1\nmax_time = '4m'\n"
    )
    below = project / "below"
    below.mkdir()
    (project / "jobs.py").rename(below / "jobs.py")
    command = [sys.executable, "-m", "idemfuzz.cli", "fuzz", "jobs:picky", "--report", "json=fuzz.json"]
    done = subprocess.run(command, cwd=below, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout
    assert (project / ".idemfuzz" / "fuzz" / "state-1-of-2.json").exists()
    assert len(findings(project)) == 1
    assert json.loads((below / "fuzz.json").read_text())["standing"]["max_seconds"] == 240
    (known,) = findings(project)

    def told(*arguments: str) -> str:
        command = [sys.executable, "-m", "idemfuzz.cli", *arguments]
        return subprocess.run(command, cwd=below, env=environment, capture_output=True, text=True).stdout

    assert f"[{known}]" in told("replay")
    assert "1 still failing" in told("replay", known)
    assert known in told("issues")
    assert "picky" in told("export", known)
    assert "../idemfuzz-baseline.json" in told("baseline", known, "--reason", "it is known")
    assert (project / "idemfuzz-baseline.json").exists()
    assert not (below / ".idemfuzz").exists()
