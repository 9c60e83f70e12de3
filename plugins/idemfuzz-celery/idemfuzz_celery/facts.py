"""What Celery itself does to a task: the real events behind duplicates, and when they come.

Read in Celery 5.7 and kombu 5.7, and reproduced with the Redis broker.
"""

from __future__ import annotations

from typing import Any

__all__ = ["REASONS", "redelivery_window_seconds"]

_VISIBILITY_TIMEOUT_SECONDS = 3600.0

REASONS = {
    "duplicate": (
        "Celery runs a task twice when the worker is lost after the task ended and before its message was "
        "acknowledged (task_acks_late), when a publish is sent again because its confirmation was lost "
        "(task_publish_retry, True by default), when beat runs twice, and when a shutdown puts back messages of "
        "tasks that were already done."
    ),
    "overlap": (
        "Celery's Redis broker puts a message back that was not acknowledged within visibility_timeout (3600 s), "
        "also while its task still runs (task_acks_late) or waits for its ETA in a worker's memory; RabbitMQ does so "
        "when the connection is lost or consumer_timeout (30 min) is over. "
        "worker_deduplicate_successful_tasks does not help while the first copy runs."
    ),
    "kill": (
        "Celery's worker is killed (out of memory, a deploy, a lost node) in the middle of a task: with "
        "task_acks_late and task_reject_on_worker_lost the message goes back to the queue at once, and with "
        "task_acks_late and a lost worker as soon as RabbitMQ sees the connection close, or when the Redis "
        "broker's visibility_timeout (3600 s) is over."
    ),
    "timeout": (
        "Celery raises SoftTimeLimitExceeded in the task when task_soft_time_limit is over; with autoretry_for, or "
        "with task_acks_late and task_acks_on_failure_or_timeout=False, the task runs again. It is an Exception, so "
        "that 'except Exception' swallows it."
    ),
    "shutdown": (
        "Celery lets tasks end at a warm shutdown (SIGTERM). A cold one (SIGQUIT, a second SIGINT, a supervisor's "
        "SIGKILL after its grace period) ends the prefork pool's processes without an exception in the task: that is "
        "a kill; with task_acks_late the message goes back to the queue."
    ),
}


def redelivery_window_seconds(apps: Any) -> float:
    """The longest visibility_timeout that the apps set for their brokers; 3600 s, that of kombu, where none does."""
    known = []
    for app in apps:
        options = app.conf.broker_transport_options or {}
        seconds = options.get("visibility_timeout")
        if isinstance(seconds, int | float) and seconds > 0:
            known.append(float(seconds))
    return max(known, default=_VISIBILITY_TIMEOUT_SECONDS)
