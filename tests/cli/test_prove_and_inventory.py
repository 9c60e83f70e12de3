"""`run --prove`, `inventory` and `document`, in a fresh process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow

APPLICATION = """
from rq import Queue
import jobs

def view(queue: Queue) -> None:
    queue.enqueue(jobs.right)
    queue.enqueue("jobs.naive")
    queue.enqueue(jobs.never_tested)
"""


@pytest.fixture
def application(project: Path) -> Path:
    (project / "views.py").write_text(APPLICATION, encoding="utf-8")
    with open(project / "jobs.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef never_tested():\n    right()\n")
    return project


def test_a_proof_names_the_guard_and_a_mend(idemfuzz: Run, project: Path) -> None:
    done = idemfuzz("run", "test_jobs.py", "--prove", "--report", "json=out.json")
    assert done.returncode == 1, done.stderr
    said = " ".join(done.stdout.split())
    assert "held by PRIMARY KEY(members.email)" in said
    assert "verified UNIQUE(users.email): the same search" in said
    reports = {r["name"]: r for r in json.loads((project / "out.json").read_text())["reports"]}
    (removal,) = reports["test_jobs.py::test_right"]["proof"]["removals"]
    assert removal["role"] == "carries"
    assert 0 < removal["fallen"] <= removal["plans"]
    assert removal["plan"]
    assert [mend["verified"] for mend in reports["test_jobs.py::test_naive"]["mends"]] == [True]


def test_the_inventory_joins_source_and_verdicts(idemfuzz: Run, application: Path) -> None:
    """Goal: before a run nothing holds; after it each job has its verdict, and the one without a test is named."""
    before = json.loads(idemfuzz("inventory", ".", "--json").stdout)
    assert {job["name"]: job["status"] for job in before["jobs"]} == {
        "jobs.naive": "not run",
        "jobs.never_tested": "no test",
        "jobs.right": "not run",
    }
    idemfuzz("run", "test_jobs.py", "--prove", "--max-trials", "20")
    after = {job["name"]: job for job in json.loads(idemfuzz("inventory", ".", "--json").stdout)["jobs"]}
    assert {name: job["status"] for name, job in after.items()} == {
        "jobs.naive": "violated",
        "jobs.never_tested": "no test",
        "jobs.right": "holds",
    }
    assert after["jobs.right"]["strategies"] == ["unique constraint"]
    assert after["jobs.right"]["proven"]
    assert "engine.insert.users" in after["jobs.naive"]["writes"]
    shown = idemfuzz("inventory", ".", "--fail-under", "50")
    assert shown.returncode == 1
    assert "no marked test" in shown.stdout
    assert idemfuzz("inventory", ".", "--fail-under", "30").returncode == 0


def test_a_verdict_on_other_source_does_not_count(idemfuzz: Run, application: Path) -> None:
    idemfuzz("run", "test_jobs.py", "--max-trials", "10")
    jobs = application / "jobs.py"
    jobs.write_text(
        jobs.read_text().replace("members.insert()", "members.insert().inline()"), encoding="utf-8"
    )
    status = {j["name"]: j["status"] for j in json.loads(idemfuzz("inventory", ".", "--json").stdout)["jobs"]}
    assert status["jobs.right"] == "holds, changed since"


def test_the_page_keeps_what_people_wrote(idemfuzz: Run, application: Path) -> None:
    page = application / "JOBS.md"
    assert idemfuzz("document", ".").returncode == 0
    page.write_text(page.read_text().replace("## `right`\n", "## `right`\n\nAsk Ada.\n"), encoding="utf-8")
    assert idemfuzz("document", ".", "--check").returncode == 0
    idemfuzz("run", "test_jobs.py", "--prove", "--max-trials", "20")
    assert idemfuzz("document", ".", "--check").returncode == 1
    assert idemfuzz("document", ".").returncode == 0
    assert "Ask Ada." in page.read_text()
    assert "PRIMARY KEY(members.email)" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["inventory"], "PATH"),
        (["inventory", "nowhere"], "nowhere"),
        (["inventory", ".", "--json", "--markdown"], "choose one"),
        (["inventory", ".", "--fail-under", "120"], "120"),
        (["inventory", ".", "--import", "not_there"], "not_there"),
        (["document", ".", "--output", "no/such/folder.md"], "no/such/folder.md"),
    ],
)
def test_bad_input_ends_with_2_and_says_why(
    idemfuzz: Run, project: Path, arguments: list[str], word: str
) -> None:
    done = idemfuzz(*arguments)
    assert done.returncode == 2
    assert word in done.stderr
