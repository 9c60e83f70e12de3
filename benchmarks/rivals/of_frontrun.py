"""One question to frontrun, in its own environment: ``of_frontrun URL JOB find|all|certify``. It imports no idemfuzz."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from benchmarks import jobs

_SECONDS_MAX = 20.0


def main(url: str, name: str, asked: str) -> None:
    import frontrun

    job = getattr(jobs, name)
    sql = not url.startswith(("redis", "unix"))
    if sql:
        from sqlalchemy import create_engine, func, select

        ours = create_engine(url)
        table = jobs.RECEIPT if name == "upsert" else jobs.PAYMENT
    else:
        import redis

        ours = redis.Redis.from_url(url)

    def setup() -> Any:
        jobs.clear(ours)
        if sql:
            ours.dispose()
            return create_engine(url)
        return redis.Redis.from_url(url)

    def invariant(_: Any) -> bool:
        if sql:
            with ours.connect() as connection:
                return connection.scalar(select(func.count()).select_from(table)) == 1
        return ours.llen("payments") == 1

    begun = time.perf_counter()
    result = frontrun.explore(
        setup=setup,
        workers=job,
        count=2,
        invariant=invariant,
        stop_on_first=asked == "find",
        preemption_bound=None,
        total_timeout=_SECONDS_MAX,
        reproduce_on_failure=0,
        warn_nondeterministic_sql=False,
    )
    seconds = time.perf_counter() - begun
    if result.property_holds is None:
        answer = f"inconclusive: {(result.inconclusive_reason or '').partition('.')[0][:100]}"
    elif result.property_holds:
        answer = f"holds, exhausted={result.exhausted}"
    else:
        answer = "violated"
    print(json.dumps({"answer": answer, "executions": result.num_explored, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
