"""Parts of a fuzz campaign as ordinary RQ jobs: any worker that can import the project takes one.

RQ is the engine: what a dead worker leaves undone is retried by RQ itself, and results travel through Redis. A part's status goes into
its job's meta data, so that what it had found is known even if it dies.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["QUEUE", "RqPart", "enqueued", "run_part"]

QUEUE = "idemfuzz"
_GRACE_SECONDS = 300
_POLL_SECONDS = 1.0
_KEPT_SECONDS = 24 * 3600
_RETRIES = 2
_STOP = "idemfuzz:stop:"


def run_part(arguments: Sequence[str], shard: str) -> dict[str, Any]:
    """What a worker does: the command in a process of its own, which ends when this one does.

    Raises:
        RuntimeError: it ended without a report; the message has its last lines.
    """
    from rq import get_current_job

    job: Any = get_current_job()
    with tempfile.TemporaryDirectory(prefix="idemfuzz-part-") as folder:
        status, log = Path(folder) / "status.json", Path(folder) / "log"
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
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    report = _read(status)
                    if job is not None and report is not None:
                        job.meta["status"] = report
                        job.save_meta()
                    if job is not None and job.connection.exists(f"{_STOP}{job.id}"):
                        process.send_signal(2)
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()
        report = _read(status)
        if report is None or process.returncode not in (0, 1):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"idemfuzz fuzz ended with {process.returncode}: {' | '.join(lines[-4:])}")
        return report


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


class RqPart:
    """One part at work, seen through its job."""

    def __init__(self, job: Any, name: str) -> None:
        self._job = job
        self.name = name

    def status(self) -> dict[str, Any] | None:
        self._job.refresh()
        result = self._job.return_value()
        found: dict[str, Any] | None = result if isinstance(result, dict) else self._job.meta.get("status")
        return found

    def ended(self) -> bool:
        return str(self._job.get_status(refresh=True).value) in ("finished", "failed", "stopped", "canceled")

    def trouble(self) -> str:
        state = str(self._job.get_status(refresh=True).value)
        if state == "finished":
            return ""
        result = self._job.latest_result()
        text = str(result.exc_string or "").strip().splitlines() if result is not None else []
        return f"part {self.name} {state}: {text[-1] if text else 'RQ does not say why'}"

    def stop(self) -> None:
        self._job.connection.set(f"{_STOP}{self._job.id}", 1, ex=_KEPT_SECONDS)


def enqueued(url: str, arguments: Sequence[str], parts: int, max_seconds: float) -> tuple[list[RqPart], int]:
    """Hand ``parts`` parts to RQ's workers; also returns how many workers listen now.

    Raises:
        ConnectionError: there is no Redis at this URL.
        ValueError: the URL is none.
    """
    from redis import Redis
    from redis.exceptions import ConnectionError as RedisConnectionError
    from rq import Queue, Retry, Worker

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
