"""`idemfuzz stress`: many deliveries by real workers of a real queue, with real kills."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from idemfuzz.abc import Unusable
from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS
from idemfuzz.model import Verdict

if TYPE_CHECKING:
    from idemfuzz.reporting.screen import Screen
    from idemfuzz.stress import Progress

_PLAIN_SECONDS = 5.0


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    from idemfuzz.stress import seconds_of

    if value is None:
        return None
    try:
        return seconds_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _listed(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part.strip() for part in value.split(",") if part.strip())


def _pairs(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in value:
        name, equals, content = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r}; expected NAME=TEXT, as in SHOP_DATABASE_URL={{database}}")
        pairs[name] = content
    return pairs


@click.command("stress")
@click.argument("target", metavar="TARGET")
@click.option(
    "--deliveries", type=int, default=100, show_default=True, metavar="N", help="How many messages are sent."
)
@click.option(
    "--distinct", type=int, metavar="N", help="How many different jobs are among them [half, at most 200]."
)
@click.option(
    "--workers", type=int, default=4, show_default=True, metavar="N", help="Worker processes at a time."
)
@click.option(
    "--worker-class",
    type=click.Choice(["fork", "simple", "spawn"]),
    default="fork",
    show_default=True,
    help="RQ's Worker, SimpleWorker or SpawnWorker.",
)
@click.option(
    "--kill-rate",
    type=float,
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Which share of the executions is struck by a fault.",
)
@click.option(
    "--kill-at",
    metavar="EFFECT",
    help="SIGKILL the first execution of each job at this effect, as in db.commit or before:redis.SET#2.",
)
@click.option(
    "--queue-faults",
    callback=_listed,
    metavar="A,B,...",
    help="Which faults strike; `all` is every one, `list` explains them.",
)
@click.option(
    "--sending",
    callback=_listed,
    metavar="A,B,...",
    help="How copies are enqueued: new-id, same-id, unique [new-id,same-id].",
)
@click.option(
    "--producers",
    type=int,
    default=3,
    show_default=True,
    metavar="N",
    help="Threads that enqueue at the same time.",
)
@click.option(
    "--queues",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Queues, of which each worker listens on all.",
)
@click.option(
    "--retries",
    type=int,
    default=3,
    show_default=True,
    metavar="N",
    help="Retry(max=N) of each message; 0 is none, RQ's own default.",
)
@click.option(
    "--job-timeout",
    type=int,
    default=15,
    show_default=True,
    metavar="SECONDS",
    help="RQ's job_timeout of each message.",
)
@click.option(
    "--lease",
    callback=_seconds,
    default="2s",
    show_default=True,
    metavar="TIME",
    help="What RQ adds to a lease, a minute in stock RQ.",
)
@click.option("--stock", is_flag=True, help="Leave all of RQ's own times alone: recovery takes minutes.")
@click.option(
    "--duration",
    callback=_seconds,
    default="60s",
    show_default=True,
    metavar="TIME",
    help="After this long nothing more is sent.",
)
@click.option(
    "--drain",
    callback=_seconds,
    metavar="TIME",
    help="How long workers may finish after that [30s; 150s with kill-popped or restart].",
)
@click.option(
    "--database", metavar="URL|sqlite|none", help="Instead of a PostgreSQL database of the run's own."
)
@click.option("--redis", "redis_url", metavar="URL", help="Instead of a Redis server of the run's own.")
@click.option(
    "--env",
    callback=_pairs,
    multiple=True,
    metavar="NAME=TEXT",
    help="For the job's module; {database}, {redis} and {folder} are replaced.",
)
@click.option(
    "--ignore",
    multiple=True,
    metavar="PATTERN",
    help="What is not compared, as in users.updated_at or redis:cache:*.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="NAME",
    help="A database or host that may be written to though its name does not say test.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="Seed of all lots."
)
@click.option("--report", multiple=True, metavar="json=FILE", help="Write a report for programs, too.")
def command(
    target: str,
    deliveries: int,
    distinct: int | None,
    workers: int,
    worker_class: str,
    kill_rate: float,
    kill_at: str | None,
    queue_faults: tuple[str, ...] | None,
    sending: tuple[str, ...] | None,
    producers: int,
    queues: int,
    retries: int,
    job_timeout: int,
    lease: float,
    stock: bool,
    duration: float,
    drain: float | None,
    database: str | None,
    redis_url: str | None,
    env: dict[str, str],
    ignore: tuple[str, ...],
    allow: tuple[str, ...],
    seed: int,
    report: tuple[str, ...],
) -> None:
    """Deliver a job many times by real RQ workers, kill them, and judge what is left.

    TARGET is a registered job: shop.jobs:create_user, shop.jobs (if it registers one), or a file jobs.py:create_user. Its module
    finds its database and Redis in the environment: DATABASE_URL and REDIS_URL are set to servers of the run's own, --env sets others.
    """
    missing = [name for name in ("psutil", "redis", "rq") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unusable(
            f"a stress run needs {', '.join(missing)}, which is not installed: pip install 'idemfuzz[stress]'"
        )
    from idemfuzz.cli.run import _check_reports
    from idemfuzz.reporting.json_report import write_json
    from idemfuzz.reporting.screen import Screen
    from idemfuzz.reporting.stress import lines_of, stress_to_json
    from idemfuzz.stress import DEFAULT_FAULTS, FAULTS, Aim, Settings, find_target, prepared, stress

    if queue_faults == ("list",):
        for name, text in FAULTS.items():
            click.echo(f"{name:<12} {text}{' (default)' if name in DEFAULT_FAULTS else ''}")
        return
    _check_reports(report)
    faults = (
        tuple(FAULTS)
        if queue_faults == ("all",)
        else DEFAULT_FAULTS
        if queue_faults is None
        else queue_faults
    )
    aim = None if kill_at is None else Aim.parse(kill_at)
    if aim is not None and queue_faults is None:
        faults = ("kill-horse",)
    settings = Settings(
        deliveries=deliveries,
        distinct=distinct,
        workers=workers,
        worker_class=worker_class,
        kill_rate=kill_rate,
        kill_at=aim,
        faults=faults,
        sending=sending or ("new-id", "same-id"),
        producers=producers,
        queues=queues,
        retries=retries,
        job_timeout_seconds=job_timeout,
        lease_seconds=None if stock else lease,
        duration_seconds=duration,
        drain_seconds=drain
        if drain is not None
        else 150.0
        if {"kill-popped", "restart"} & set(faults)
        else 1200.0
        if stock
        else 30.0,
        seed=seed,
        ignore=ignore,
        allow=allow,
        environment=env,
    )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with Screen.on_standard_output() as screen, prepared(database, redis_url) as ground:
        os.environ.update(ground.environment(env))
        found = find_target(target)
        done = stress(found, ground, settings, listener=_Live(screen, found.name))
        screen.clear()
        for line in lines_of(done, screen.width):
            screen.console.print(line, soft_wrap=True)
    for text in report:
        write_json(Path(text.partition("=")[2]), stress_to_json(done))
    raise click.exceptions.Exit(EXIT_HOLDS if done.verdict is Verdict.HOLDS else EXIT_FOUND)


class _Live:
    """The live line of a terminal; elsewhere a plain line now and then."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name
        self._phase = ""
        self._told = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._screen.live:
            self._screen.show(f"{self._name}  {_told(progress)}", progress.done, max(1, progress.total))
            return
        now = time.monotonic()
        if progress.phase == self._phase and now - self._told < _PLAIN_SECONDS:
            return
        self._phase, self._told = progress.phase, now
        self._screen.say(_told(progress))


def _told(progress: Progress) -> str:
    if progress.phase != "storm":
        return progress.phase
    eta = f", {progress.eta_seconds:.0f} s to go" if progress.eta_seconds is not None else ""
    return (
        f"{progress.sent} sent, {progress.running} running, {progress.done} done, {progress.redelivered} given out again, "
        f"{progress.strikes} struck, {progress.rate:.0f}/s{eta}"
    )
