"""What a stress run puts into RQ's queues, and what RQ says of it; asked by plain commands, which clean up nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rq import Queue, Retry
from rq.job import Job

from idemfuzz.abc import Unusable

__all__ = ["RqMessages", "raise_on_success"]

_OURS = b":stress-"
"""In the names of all that a run makes."""


def raise_on_success(*args: Any) -> None:
    """A success callback that fails, as one does that reports to a service which is down."""
    raise RuntimeError("the success callback failed (injected)")


class RqMessages:
    """What a stress run puts into RQ's queues, and what has become of it."""

    def __init__(self, url: str, queues: Sequence[str]) -> None:
        self._url = url
        self._client = self._connect(url)
        self._queues = [Queue(name, connection=self._client) for name in queues]

    @staticmethod
    def _connect(url: str) -> Any:
        from redis import Redis

        return Redis.from_url(url)

    @staticmethod
    def client_through(port: int) -> Any:
        """A client as many producers have it: by host and port, which sends a command again when its reply is lost."""
        from redis import Redis

        return Redis(host="127.0.0.1", port=port)

    def producer(self, client: Any | None = None) -> RqMessages:
        """The same queues over a connection of its own, for another thread."""
        other = object.__new__(RqMessages)
        other._url = self._url
        other._client = client if client is not None else self._connect(self._url)
        other._queues = [Queue(queue.name, connection=other._client) for queue in self._queues]
        return other

    def send(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        job_id: str,
        *,
        retries: int,
        timeout_seconds: int,
        queue: int = 0,
        unique: bool = False,
        failing_callback: bool = False,
    ) -> bool:
        """Put one message into a queue; False if RQ refused it as a duplicate.

        Raises:
            redis.exceptions.RedisError: the server did not answer.
        """
        from rq import Callback

        extra: dict[str, Any] = {"unique": True} if unique else {}
        if failing_callback:
            extra["on_success"] = Callback(raise_on_success)
        try:
            self._queues[queue % len(self._queues)].enqueue_call(
                function,
                args=tuple(args),
                kwargs=dict(kwargs),
                job_id=job_id,
                timeout=timeout_seconds,
                retry=Retry(max=retries) if retries else None,
                **extra,
            )
        except Exception as error:
            if type(error).__name__ == "DuplicateJobError":
                return False
            raise
        return True

    def check_alone(self) -> None:
        """Whether no worker listens on these queues.

        Raises:
            Unusable: one does, and would take messages that are to be watched.
        """
        for queue in self._queues:
            for key in self._client.smembers(f"rq:workers:{queue.name}"):
                if self._client.exists(key):
                    raise Unusable(
                        f"the worker {key.decode().removeprefix('rq:worker:')!r} listens on the queue {queue.name!r} of this Redis, and would "
                        "take what the run sends. Stop it, wait a minute if it is gone already, or leave --redis out for a server of the "
                        "run's own"
                    )

    def waiting(self) -> int:
        """How many messages are in the queues, or under way between a queue and a worker."""
        return self.waiting_and_leased()[0]

    def waiting_and_leased(self) -> tuple[int, int]:
        """The same, and how many jobs are started by RQ's account, both at one moment: a redelivery goes from one to the other.

        Counted with plain commands: RQ's own counting of a registry cleans it up, and so redelivers.
        """
        pipeline = self._client.pipeline(transaction=True)
        for queue in self._queues:
            pipeline.llen(queue.key)
            pipeline.llen(f"{queue.key}:intermediate")
            pipeline.zcard(_registry_key(queue, "scheduled"))
        for queue in self._queues:
            pipeline.zcard(_registry_key(queue, "wip"))
        counts = pipeline.execute()
        queues = len(self._queues)
        return sum(counts[:-queues]), sum(counts[-queues:])

    def fate(self, job_id: str) -> dict[str, Any]:
        """What RQ says of a job now: its status, in which of its lists it is, retries left."""
        stored = self._client.hgetall(f"{Job.redis_job_namespace_prefix}{job_id}")
        fields = {key.decode(): value for key, value in stored.items()}
        lists = []
        for queue in self._queues:
            if self._client.lpos(queue.key, job_id) is not None:
                lists.append("queue")
            if self._client.lpos(f"{queue.key}:intermediate", job_id) is not None:
                lists.append("intermediate queue")
            if self._client.zscore(_registry_key(queue, "failed"), job_id) is not None:
                lists.append("failed registry")
            if any(
                key.decode().startswith(job_id)
                for key in self._client.zrange(_registry_key(queue, "wip"), 0, -1)
            ):
                lists.append("started registry")
        left = fields.get("retries_left")
        return {
            "status": fields.get("status", b"gone").decode(),
            "lists": lists,
            "retries_left": None if left is None else int(left),
        }

    def error(self, job_id: str) -> str | None:
        """The last line of what a failed job has raised, by RQ's account."""
        try:
            result = Job.fetch(job_id, connection=self._client).latest_result()
        except Exception:
            return None
        text = str(getattr(result, "exc_string", None) or "").strip()
        return text.splitlines()[-1] if text else None

    def empty(self) -> None:
        """Take away what RQ keeps of these queues, their messages and the run's workers; nothing of others."""
        with suppress(Exception):
            mine = [key for key in self._client.scan_iter("rq:*", count=1_000) if _OURS in key]
            for start in range(0, len(mine), 1_000):
                self._client.delete(*mine[start : start + 1_000])
            for name in ("rq:workers", "rq:queues"):
                gone = [member for member in self._client.smembers(name) if _OURS in member]
                if gone:
                    self._client.srem(name, *gone)

    def close(self) -> None:
        self._client.close()


def _registry_key(queue: Any, kind: str) -> str:
    prefix = queue.redis_queue_namespace_prefix.partition(":")[0]
    return f"{prefix}:{kind}:{queue.name}"
