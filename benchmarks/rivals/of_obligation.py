"""pytest-obligation's crash histories of one RQ job, in its own environment: ``of_obligation URL REDIS_URL JOB``.

The job's worker is RQ's, its recovery RQ's maintenance. It imports no idemfuzz.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks import jobs


def work(url: str, name: str) -> None:
    """What is enqueued."""
    from sqlalchemy import create_engine

    engine = create_engine(url)
    getattr(jobs, name)(engine)
    engine.dispose()


def main(url: str, redis_url: str, name: str) -> None:
    import redis
    from pytest_obligation import configure
    from pytest_obligation.crash_histories import CallableDelivery, HandoffHistory, crash_histories
    from pytest_obligation.integrations.redis import redis_host
    from pytest_obligation.integrations.rq import maintenance_passes, rq_callback_breaker, worker_pass
    from rq import Queue, Retry
    from sqlalchemy import create_engine, func, select

    engine = create_engine(url)
    client = redis.Redis.from_url(redis_url)
    configure(redis_host(client, {"benchmarks"}, receiver_breaker=rq_callback_breaker))

    def arrange() -> str:
        # The database was made for this run.
        client.flushdb()
        jobs.clear(engine)
        queue = Queue("bench", connection=client)
        queue.enqueue("benchmarks.rivals.of_obligation.work", url, name, retry=Retry(max=2))
        return name

    def observe(_: str) -> Any:
        with engine.connect() as connection:
            return [
                connection.scalar(select(func.count()).select_from(table))
                for table in jobs.TABLES.sorted_tables
            ]

    history = HandoffHistory(
        name=name, arrange=arrange, transition=worker_pass(client, ["bench"]), observe=observe
    )
    delivery = CallableDelivery(name="rq", recover=maintenance_passes(client, ["bench"]))
    begun = time.perf_counter()
    runs = crash_histories(delivery, history)
    seconds = time.perf_counter() - begun
    diverged = [run.label for run in runs[1:] if run.after != runs[0].after]
    answer = f"{len(diverged)} histories diverge, first: {diverged[0]}" if diverged else "all converge"
    print(json.dumps({"answer": answer, "executions": len(runs), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
