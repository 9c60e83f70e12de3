"""`idemfuzz stress`: many deliveries by real workers of a real queue, with real kills."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from idemfuzz import import_path
from idemfuzz.abc import Options, Unusable
from idemfuzz.cli import EXIT_FOUND, EXIT_HOLDS
from idemfuzz.model import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from idemfuzz.reporting.screen import Screen
    from idemfuzz.stress import Ground, Progress, Settings, Target

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
    "--sweep",
    is_flag=True,
    help="No queue: SIGKILL at each of the job's effects in turn, each followed by a clean delivery and a judgement.",
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
    metavar="SECONDS",
    help="RQ's job_timeout of each message [15; with --stock RQ's own, 180].",
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
    help="How long workers may finish after that [30s; 150s with restart, 20m with --stock].",
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
@click.pass_context
def command(
    context: click.Context,
    target: str,
    sweep: bool,
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
    job_timeout: int | None,
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

    Exit codes: 0 holds, 1 findings or nothing can be claimed (also after Ctrl-C), 2 usage or infrastructure.
    """
    missing = [name for name in ("psutil", "redis", "rq") if importlib.util.find_spec(name) is None]
    if missing:
        raise Unusable(
            f"a stress run needs {', '.join(missing)}, which is not installed: pip install 'idemfuzz[stress]'"
        )
    from idemfuzz.adapters.rq_worker import check_rq
    from idemfuzz.cli.run import _check_json_reports
    from idemfuzz.stress import DEFAULT_FAULTS, FAULTS, Aim, Settings, check_target

    if queue_faults == ("list",):
        for name, text in FAULTS.items():
            click.echo(f"{name:<12} {text}{' (default)' if name in DEFAULT_FAULTS else ''}")
        return
    _check_json_reports(report)
    import_path.include_here()
    place = _Place(target, database, redis_url, env, allow)
    if job_timeout is None:
        job_timeout = 180 if stock else 15
    if sweep:
        _refuse_with_sweep(context)
        check_target(target)
        _sweep(place, Options(ignore=ignore, allow=allow, timeout=float(job_timeout)), report)
    aim = None if kill_at is None else Aim.parse(kill_at)
    faults = queue_faults if queue_faults is not None else ("kill-horse",) if aim else DEFAULT_FAULTS
    if not faults:
        raise Unusable(
            "--queue-faults names nothing; `--queue-faults list` shows all, and --kill-rate 0 strikes nobody"
        )
    if faults == ("all",):
        faults = tuple(FAULTS)
        if redis_url is not None:
            # A server that was given is not ours to kill.
            faults = tuple(name for name in faults if name != "restart")
    if "restart" in faults and redis_url is not None:
        raise Unusable(
            "--queue-faults restart kills Redis, and --redis names one that is not the run's own to kill; leave one of them out"
        )
    if drain is None:
        drain = 1200.0 if stock else 150.0 if "restart" in faults else 30.0
    settings = Settings(
        deliveries=deliveries,
        distinct=distinct,
        workers=workers,
        worker_class=worker_class,
        kill_rate=kill_rate,
        kill_at=aim,
        faults=faults,
        sending=("new-id", "same-id") if sending is None else sending,
        producers=producers,
        queues=queues,
        retries=retries,
        job_timeout_seconds=job_timeout,
        lease_seconds=None if stock else lease,
        duration_seconds=duration,
        drain_seconds=drain,
        seed=seed,
        ignore=ignore,
        allow=allow,
    )
    check_rq(settings.worker_class, settings.sending)
    check_target(target)
    _stress(place, settings, report)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is run, and where."""

    target: str
    database: str | None
    redis: str | None
    env: Mapping[str, str]
    allow: tuple[str, ...]

    @contextmanager
    def found(self) -> Iterator[tuple[Target, Ground]]:
        """Import the job where its servers can be found."""
        from idemfuzz.stress import check_servers, find_target, prepared

        check_servers(self.database, self.redis, self.allow)
        with prepared(self.database, self.redis) as ground:
            os.environ.update(ground.environment(self.env))
            yield find_target(self.target), ground


_SWEEP_TAKES = frozenset(
    {"target", "sweep", "job_timeout", "database", "redis_url", "env", "ignore", "allow", "report"}
)


def _refuse_with_sweep(context: click.Context) -> None:
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in _SWEEP_TAKES
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise Unusable(
            f"--sweep has no queue and no lots: {', '.join(given)} would do nothing. Leave {'them' if len(given) > 1 else 'it'} "
            "out, or leave --sweep out for a run with real workers"
        )


def _stress(place: _Place, settings: Settings, report: Sequence[str]) -> NoReturn:
    from idemfuzz.reporting.stress import lines_of, stress_to_json
    from idemfuzz.stress import stress

    with _screen() as screen, place.found() as (found, ground):
        done = stress(found, ground, settings, listener=_Live(screen, found.name))
        _print(screen, lines_of(done, screen.width))
    _conclude(done.verdict, stress_to_json(done), report)


def _sweep(place: _Place, options: Options, report: Sequence[str]) -> NoReturn:
    from idemfuzz.reporting.stress import lines_of_sweep, sweep_to_json
    from idemfuzz.stress import sweep

    with _screen() as screen, place.found() as (found, _):
        done = sweep(found, options, listener=_Live(screen, found.name))
        _print(screen, lines_of_sweep(done, found.registration.target, screen.width))
    _conclude(done.verdict, sweep_to_json(done), report)


@contextmanager
def _screen() -> Iterator[Screen]:
    from idemfuzz.reporting.screen import Screen

    # A runner that cancels a build sends SIGTERM: the same clean end as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Screen.on_standard_output() as screen:
        yield screen


def _print(screen: Screen, lines: Iterable[Text]) -> None:
    screen.clear()
    for line in lines:
        screen.console.print(line, soft_wrap=True)


def _conclude(verdict: Verdict, written: Mapping[str, Any], report: Sequence[str]) -> NoReturn:
    from idemfuzz.reporting.json_report import write_json

    for text in report:
        write_json(Path(text.partition("=")[2]), written)
    raise click.exceptions.Exit(EXIT_HOLDS if verdict is Verdict.HOLDS else EXIT_FOUND)


class _Live:
    """The live line of a terminal; elsewhere a plain line now and then."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen = screen
        self._name = name
        self._phase = ""
        self._told = 0.0

    def __call__(self, progress: Progress) -> None:
        if self._screen.live:
            self._screen.hold(self._block(progress))
            return
        now = time.monotonic()
        if progress.phase == self._phase and now - self._told < _PLAIN_SECONDS:
            return
        self._phase, self._told = progress.phase, now
        self._screen.say(_told(progress))

    def _block(self, progress: Progress) -> RenderableType:
        """The job with its progress, and below it the numbers, as far as the terminal is wide."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from idemfuzz.reporting.steps import clean, cut

        width = self._screen.width
        head = Table.grid(padding=(0, 1))
        share = f"{progress.done}/{progress.total}" if progress.total else ""
        bar = ProgressBar(
            total=max(1, progress.total), completed=min(progress.done, progress.total), width=24
        )
        name = Text(cut(clean(self._name), max(16, width - 48)), style="bold")
        head.add_row(name, bar, Text(share), Text(_pace(progress), style="dim"))
        return Group(head, Text(f"  {_numbers(progress)}", overflow="ellipsis", no_wrap=True))


def _told(progress: Progress) -> str:
    pace = _pace(progress)
    return _numbers(progress) + (f", {pace}" if pace else "")


def _numbers(progress: Progress) -> str:
    found = (
        f", {progress.findings} finding{'s' if progress.findings > 1 else ''}" if progress.findings else ""
    )
    if progress.phase == "sweep":
        return f"killed at {progress.done} of {progress.total} points{found}"
    if progress.phase != "storm":
        return progress.phase + found
    return (
        f"{progress.sent} sent, {progress.running} running, {progress.done} done, {progress.redelivered} given out again, "
        f"{progress.strikes} struck{found}"
    )


def _pace(progress: Progress) -> str:
    if progress.phase != "storm" or not progress.rate:
        return ""
    left = f", {progress.eta_seconds:.0f} s to go" if progress.eta_seconds else ""
    return f"{progress.rate:.1f}/s{left}" if progress.rate < 10 else f"{progress.rate:.0f}/s{left}"
