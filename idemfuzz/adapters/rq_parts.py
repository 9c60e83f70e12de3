"""Parts of a fuzz campaign as ordinary RQ jobs: any worker that can import the project takes one.

RQ is the engine: what a dead worker leaves undone is retried by RQ itself, and results travel through Redis. A part's status goes into
its job's meta data, so that what it had found is known even if it dies. RQ looks for jobs of dead workers when another worker is idle, and
seldom; whoever waits for the parts does it in between.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from rq import Queue, Retry, Worker, get_current_job
from rq.exceptions import NoSuchJobError
from rq.registry import StartedJobRegistry

from idemfuzz.scratch import scratch

__all__ = ["QUEUE", "RqPart", "enqueued", "run_part"]

QUEUE = "idemfuzz"
_GRACE_SECONDS = 300
_POLL_SECONDS = 1.0
_LOOK_SECONDS = 5.0
"""How often to look for parts whose worker is gone."""
_KEPT_SECONDS = 24 * 3600
_RETRIES = 2
_STOP = "idemfuzz:stop:"


def run_part(arguments: Sequence[str], shard: str) -> dict[str, Any]:
    """What a worker does: the command in a process of its own, which ends when this one does.

    Returns its report; under ``trouble`` its last lines, where it ended as one that could not search all.

    Raises:
        RuntimeError: it ended without a report; the message has its last lines. RQ then hands the part out again.
    """
    job: Any = get_current_job()
    with scratch("idemfuzz-part-") as folder:
        status, log = folder / "status.json", folder / "log"
        command = [
            sys.executable,
            "-m",
            "idemfuzz.cli",
            "fuzz",
            *arguments,
            f"--shard={shard}",
            f"--status={status}",
        ]
        with log.open("w", encoding="utf-8") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
            stopped = False
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    report = _read(status)
                    if job is not None and report is not None:
                        job.meta["status"] = report
                        job.save_meta()
                    if not stopped and job is not None and job.connection.exists(f"{_STOP}{job.id}"):
                        # Once: a second one would cut the trial that runs.
                        stopped = True
                        process.send_signal(signal.SIGINT)
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
        report = _read(status)
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        ending = f"idemfuzz fuzz ended with {process.returncode}: {' | '.join(lines[-4:])}"
        if report is None or process.returncode < 0:
            raise RuntimeError(ending)
        # What could not be searched here cannot be searched by another run of the same.
        return report if process.returncode in (0, 1) else {**report, "trouble": ending}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


class RqPart:
    """One part at work, seen through its job. Where Redis cannot be asked now, it is as it was last seen."""

    def __init__(self, job: Any, name: str) -> None:
        self._job = job
        self.name = name
        self._state = "queued"
        self._seen: dict[str, Any] | None = None
        self._stopping = False
        self._look_at = 0.0

    def status(self) -> dict[str, Any] | None:
        self._look()
        return self._seen

    def ended(self) -> bool:
        self._look()
        return self._state in ("finished", "failed", "stopped", "canceled", "gone")

    def trouble(self) -> str:
        self._look()
        if self._state == "finished":
            told = (self._seen or {}).get("trouble")
            return f"part {self.name}: {told}" if told else ""
        if self._state == "gone":
            return f"part {self.name}: its job is not in Redis any more"
        if self._state == "canceled":
            return f"part {self.name}: no worker had taken it"
        result = self._job.latest_result()
        text = str(result.exc_string or "").strip().splitlines() if result is not None else []
        return f"part {self.name} {self._state}: {text[-1] if text else 'RQ does not say why'}"

    def stop(self) -> None:
        self._stopping = True
        with suppress(RedisError):
            self._job.connection.set(f"{_STOP}{self._job.id}", 1, ex=_KEPT_SECONDS)

    def _look(self) -> None:
        """Ask Redis how it is."""
        try:
            self._retry_abandoned()
            self._job.refresh()
            state = self._job.get_status(refresh=False)
            self._state = "gone" if state is None else str(state.value)
            if self._stopping and self._state in ("queued", "scheduled", "deferred"):
                # Nobody is at work on it who could end it.
                self._job.cancel()
                self._state = "canceled"
            # Anew each time: RQ keeps the result that it saw last, and an earlier try has one, too.
            result = self._job.return_value(refresh=True)
            found = result if isinstance(result, dict) else self._job.meta.get("status")
            self._seen = found if found is not None else self._seen
        except NoSuchJobError:
            self._state = "gone"
        except (RedisConnectionError, RedisTimeoutError):
            return

    def _retry_abandoned(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            StartedJobRegistry(self._job.origin, connection=self._job.connection).cleanup()


def enqueued(url: str, arguments: Sequence[str], parts: int, max_seconds: float) -> tuple[list[RqPart], int]:
    """Hand ``parts`` parts to RQ's workers; also returns how many workers listen now.

    Raises:
        ConnectionError: there is no Redis at this URL.
        ValueError: the URL is none.
    """
    connection: Any = Redis.from_url(url)
    try:
        connection.ping()
    except RedisConnectionError as error:
        raise ConnectionError(str(error)) from error
    queue = Queue(QUEUE, connection=connection)
    made = []
    for number in range(1, parts + 1):
        shard = f"{number}/{parts}"
        job = queue.enqueue(
            run_part,
            args=(list(arguments), shard),
            job_timeout=int(max_seconds) + _GRACE_SECONDS,
            retry=Retry(max=_RETRIES),
            result_ttl=_KEPT_SECONDS,
            failure_ttl=_KEPT_SECONDS,
            description=f"idemfuzz fuzz {shard}",
        )
        made.append(RqPart(job, shard))
    return made, Worker.count(queue=queue)
