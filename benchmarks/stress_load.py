"""What does watching real workers cost? (target: at most 20 % of the throughput of `rq worker` alone)

No fault is injected. The same messages are sent by as many producers to as many workers with the same settings: once to
`rq worker` with RQ's own class, once in a stress run. *welcome* inserts a row, commits, and sends one Redis command; *mark* is one
Redis command and nothing else, so that nearly all of its time is RQ's. Both kinds of worker have imported SQLAlchemy before they fork. The time is that from the
first sending to the end of the last execution; a stress run's own clean deliveries, and its judgement, are not in it. Alone and watched take turns;
the ratio is the median of the rounds' own ratios, of 5 rounds unless --repeats says otherwise.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from redis import Redis

from benchmarks.stores import Settings
from benchmarks.table import Table, Target, quartiles
from idemfuzz import servers
from idemfuzz.adapters.rq_messages import RqMessages
from idemfuzz.adapters.rq_worker import worker_command
from idemfuzz.stress import Settings as StressSettings
from idemfuzz.stress import Target as Job
from idemfuzz.stress import find_target, prepared, stress
from idemfuzz.stress.fleet import Fleet
from idemfuzz.stress.ground import Ground

_GOAL = 0.8
_CLASSES = {"simple": "SimpleWorker", "fork": "Worker"}
_MESSAGES = {"simple": 2_000, "fork": 200}
_WORKERS = 2
_QUEUE = "stress-bare"


def measure(settings: Settings) -> Table:
    table = Table(
        "Cost of watching real workers",
        ("worker", "job", "messages", "alone/s", "watched/s", "watched to alone", "middle half", "target"),
    )
    with prepared(None, None) as ground:
        os.environ.update(ground.environment({}))
        settings.servers["PostgreSQL"] = servers.postgresql().version.partition(" ")[0]
        for worker_class, messages in _MESSAGES.items():
            for name in ("welcome", "mark"):
                target = find_target(f"benchmarks.stress_{name}:{name}")
                asked = StressSettings(
                    deliveries=messages,
                    distinct=100,
                    workers=_WORKERS,
                    worker_class=worker_class,
                    kill_rate=0.0,
                    faults=(),
                    sending=("new-id",),
                    duration_seconds=600.0,
                )
                alone, watched = [], []
                for number in range(settings.times(5)):
                    rounds = [(alone, _alone), (watched, _watched)]
                    for rates, run in rounds if number % 2 else rounds[::-1]:
                        rates.append(run(target, ground, asked))
                ratios = [one / other for one, other in zip(watched, alone, strict=True)]
                low, high = quartiles(ratios)
                table.rows.append(
                    (
                        _CLASSES[worker_class],
                        name,
                        f"{messages:,}",
                        f"{median(alone):.0f}",
                        f"{median(watched):.0f}",
                        f"{median(ratios):.2f}",
                        f"{low:.2f} to {high:.2f}",
                        f">= {_GOAL}",
                    )
                )
                table.targets.append(
                    Target(
                        f"throughput of {_CLASSES[worker_class]} watched by a stress run, {name}",
                        "-",
                        f">= {_GOAL} of `rq worker` alone",
                        f"{median(ratios):.2f}",
                        median(ratios) >= _GOAL,
                    )
                )
    return table


def _watched(target: Job, ground: Ground, asked: StressSettings) -> float:
    report = stress(target, ground, asked)
    assert report.counts["ok"] == asked.deliveries, report
    return report.counts["ok"] / report.storm_seconds


def _alone(target: Job, ground: Ground, asked: StressSettings) -> float:
    """Messages per second, with workers that nobody watches."""
    if target.registration.setup is not None:
        target.registration.setup()
    folder = Path(ground.folder, f"alone-{time.monotonic_ns()}")
    folder.mkdir()

    def command(name: str) -> Sequence[str]:
        worker_class = f"benchmarks.stress_workers.{_CLASSES[asked.worker_class]}"
        return worker_command(worker_class, ground.redis, [_QUEUE], name, quick=True)

    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "IDEMFUZZ_STRESS_FOLDER": str(folder)}
    fleet = Fleet(asked.workers, command, environment, folder, prefix=f"stress-bare-{folder.name}")
    messages = RqMessages(ground.redis, [_QUEUE])
    client = Redis.from_url(ground.redis)
    try:
        fleet.start()
        while client.scard(f"rq:workers:{_QUEUE}") < asked.workers:
            time.sleep(0.05)
        begun = time.perf_counter()
        producers = [
            threading.Thread(target=_produce, args=(target, messages, asked, which))
            for which in range(asked.producers)
        ]
        for producer in producers:
            producer.start()
        while client.zcard(f"rq:finished:{_QUEUE}") < asked.deliveries:
            time.sleep(0.02)
        taken = time.perf_counter() - begun
        for producer in producers:
            producer.join()
    finally:
        fleet.stop()
        messages.empty()
        messages.close()
        client.close()
    return asked.deliveries / taken


def _produce(target: Job, messages: RqMessages, asked: StressSettings, which: int) -> None:
    mine = messages.producer()
    for number in range(which, asked.deliveries, asked.producers):
        args, kwargs = target.arguments(number % (asked.distinct or 1))
        mine.send(
            target.function,
            args,
            kwargs,
            f"stress-bare-{number}",
            retries=asked.retries,
            timeout_seconds=asked.job_timeout_seconds,
        )
    mine.close()
