"""How do others do with the same jobs, on the same servers, in the same run?

frontrun 0.7.0 searches interleavings: two threads run the job; it is told by an invariant (one payment) what is right.
*find* stops at the first violation; *all* and *certify* ask for everything, without a bound on preemptions, for at
most 20 seconds. It has an Engine or a client for each run, as its manual has it, through psycopg2 (it does not work with
psycopg 3). pytest-obligation 0.23.0 interrupts an RQ job, on a real Redis, after each commit and call that it sees;
it is told by an observation (the rows of each table) what to compare. idemfuzz is told nothing. *find* is the
time until the first candidate, *confirmed* until the whole search is over; against frontrun it uses this one explorer
alone, against pytest-obligation all of them. Each of the others runs in a process and an environment of its
own, which the first run makes below `.benchmarks/`; the time to start it does not count. A schedule is one run of the overlapping (or
interrupted) job from a state put back. Medians of 3 runs unless --repeats
says otherwise; of pytest-obligation, one run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Engine

from benchmarks import jobs
from benchmarks.stores import Settings, opened
from benchmarks.table import Table
from benchmarks.three_jobs import search
from idemfuzz import servers
from idemfuzz.abc import Options

ROOT = Path(__file__).parents[1]
_OVERLAP = Options(faults=frozenset({"overlap"}))
_REQUIRED = {
    "frontrun": ("frontrun==0.7.0", "sqlalchemy>=2.0", "psycopg2-binary", "redis"),
    "pytest-obligation": ("pytest-obligation[rq]==0.23.0", "sqlalchemy>=2.0"),
}
_SECONDS_MAX = 240.0


def measure(settings: Settings) -> Table:
    table = Table("Peers", ("store", "job", "tool", "asked", "answer", "schedules", "schedules/s", "seconds"))
    for name in settings.wanted(("sqlite-file", "postgresql", "redis")):
        try:
            with opened(name) as (store, version):
                if version:
                    settings.servers[version.rpartition(" ")[0]] = version.rpartition(" ")[2]
                _against_frontrun(table, name, store, settings.times(3))
                if name == "sqlite-file":
                    _against_obligation(table, store)
        except servers.Unavailable as reason:
            settings.missing[str(reason)] = None
    return table


def _against_frontrun(table: Table, name: str, store: Any, repeats: int) -> None:
    sql = isinstance(store, Engine)
    if sql:
        jobs.TABLES.create_all(store)
    for job, asked in (
        (jobs.check_then_insert if sql else jobs.check_then_push, "find"),
        (jobs.check_then_insert if sql else jobs.check_then_push, "all"),
        (jobs.upsert if sql else jobs.claim, "certify"),
    ):
        jobs.clear(store)
        _ours(table, name, job, store, repeats, asked, _OVERLAP)
        if sql:
            store.dispose()
        url = _url(store)
        answers = [
            _asked("frontrun", "benchmarks.rivals.of_frontrun", url, job.__name__, asked)
            for _ in range(1 if asked == "all" else repeats)
        ]
        last = answers[-1]
        table.rows.append(
            (
                name,
                job.__name__,
                "frontrun",
                asked,
                str(last["answer"]),
                str(last.get("executions", "")),
                f"{median(a['executions'] / a['seconds'] for a in answers):.1f}"
                if "executions" in last
                else "",
                f"{median(a['seconds'] for a in answers):.2f}" if "seconds" in last else "",
            )
        )


def _ours(
    table: Table,
    name: str,
    job: Callable[[Any], None],
    store: Any,
    repeats: int,
    asked: str,
    options: Options,
) -> None:
    search(job, store, options)
    searches = [search(job, store, options) for _ in range(repeats)]
    report = searches[-1][0]
    seen, whole = (median(one[number] for one in searches) for number in (1, 2))
    certificate = report.certificate
    if report.findings:
        answer = ", ".join(f"{f.code} after `{f.counterexample.plan}`" for f in report.findings)
    else:
        answer = f"{report.verdict}{', exhaustive' if certificate.exhaustive else ''}"
    table.rows.append(
        (
            name,
            job.__name__,
            "**idemfuzz**",
            asked,
            answer,
            str(certificate.trials),
            f"{certificate.trials / whole:.0f}",
            f"{seen:.3f}, confirmed {whole:.3f}" if report.findings else f"{whole:.3f}",
        )
    )


def _against_obligation(table: Table, store: Engine) -> None:
    for job in (jobs.insert_bare, jobs.guard_two_commits, jobs.check_then_insert):
        jobs.clear(store)
        _ours(table, "sqlite-file", job, store, 3, "interrupt", Options())
        with opened("redis") as (client, _):
            store.dispose()
            answer = _asked(
                "pytest-obligation",
                "benchmarks.rivals.of_obligation",
                _url(store),
                _url(client),
                job.__name__,
            )
        table.rows.append(
            (
                "sqlite-file",
                job.__name__,
                "pytest-obligation",
                "interrupt",
                str(answer["answer"]),
                str(answer.get("executions", "")),
                f"{answer['executions'] / answer['seconds']:.1f}" if "executions" in answer else "",
                f"{answer['seconds']:.1f}",
            )
        )


def _url(store: Any) -> str:
    if isinstance(store, Engine):
        url = store.url
        if url.get_backend_name() == "postgresql":
            url = url.set(drivername="postgresql+psycopg2")
        return url.render_as_string(hide_password=False)
    settings = store.connection_pool.connection_kwargs
    if settings.get("path"):
        return f"unix://{settings['path']}?db={settings.get('db', 0)}"
    return f"redis://{settings['host']}:{settings['port']}/{settings.get('db', 0)}"


def _asked(tool: str, module: str, *arguments: str) -> Mapping[str, Any]:
    """What the module prints last, run with the tool's own Python."""
    python = _environment(tool)
    launcher = [str(python.with_name("frontrun"))] if tool == "frontrun" else []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*launcher, str(python), "-m", module, *arguments],
                cwd=folder,
                env={"PATH": str(python.parent), "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            return {"answer": "no answer in time", "seconds": time.perf_counter() - begun}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return dict(json.loads(line))
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return {"answer": f"failed: {last[:120]}", "seconds": time.perf_counter() - begun}


def _environment(tool: str) -> Path:
    """The Python of an environment that has this tool, and nothing of ours."""
    folder = ROOT / ".benchmarks" / tool
    python = folder / "bin" / "python"
    mark = folder / "ready"
    if not mark.exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_REQUIRED[tool]],
            check=True,
            stdout=sys.stderr,
            stderr=subprocess.DEVNULL,
        )
        mark.touch()
    return python
