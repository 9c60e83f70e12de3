"""Child tasks as facts: what a task enqueues, described without the ids that Celery makes up."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from idemfuzz.abc import Errors
from idemfuzz.model import Access, Effect, Fact, FactKind, FaultKind

__all__ = ["EAGER_FAULTS", "SENT_FAULTS", "canvas_fact", "effect_of", "errors", "plain", "task_fact"]

_PLAIN = (str, bytes, int, float, bool, type(None), datetime, date, time, timedelta, Decimal, uuid.UUID)
_DEPTH_MAX = 6
_DETAIL_CHARACTERS_MAX = 120

SENT_FAULTS = (FaultKind.REFUSED, FaultKind.LOST, FaultKind.RESENT)
"""Of a message: task_publish_retry (True by default) sends it again when no confirmation comes."""
EAGER_FAULTS = (FaultKind.REFUSED,)
"""Of a child that runs at once: there is no message whose confirmation could be lost."""


def task_fact(app: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Fact:
    """One message: the task's name, its arguments, its queue, and what comes after it."""
    queue = _queue_name(app, name, args, kwargs, options)
    fields: dict[str, Any] = {
        "function": name,
        "args": [plain(value) for value in args or ()],
        "kwargs": {str(key): plain(value) for key, value in (kwargs or {}).items()},
        "queue": queue,
    }
    task_id = options.get("task_id")
    if task_id is not None and not _is_made_up(task_id):
        fields["task_id"] = str(task_id)
    if options.get("eta") is not None or options.get("countdown"):
        fields["scheduled"] = True
    if options.get("countdown"):
        fields["countdown"] = plain(options["countdown"])
    # Celery keeps the rest of a chain in reverse.
    for field, signatures in (
        ("then", reversed(list(options.get("chain") or ()))),
        ("link", _listed(options.get("link"))),
    ):
        described = [_signature(each) for each in signatures]
        if described:
            fields[field] = described
    if options.get("chord"):
        fields["chord"] = _signature(options["chord"])
    return Fact(store="celery", kind=FactKind.JOB, group=f"{queue}: {name}", fields=fields)


def canvas_fact(canvas: Any) -> Fact:
    """A chain, group or chord that runs at once."""
    kind = str(canvas.get("task", type(canvas).__name__)).removeprefix("celery.")
    tasks = [_signature(each) for each in getattr(canvas, "tasks", ())]
    fields: dict[str, Any] = {"function": kind, "args": tasks, "kwargs": {}, "queue": "eager"}
    body = getattr(canvas, "body", None)
    if body is not None:
        fields["chord"] = _signature(body)
    names = "+".join(str(each["task"]) for each in tasks)
    return Fact(store="celery", kind=FactKind.JOB, group=f"{kind}: {names}", fields=fields)


def effect_of(fact: Fact, faults: tuple[FaultKind, ...], source: Any) -> Effect:
    fields = fact.fields
    arguments = [repr(value) for value in fields["args"]]
    arguments += [f"{key}={value!r}" for key, value in fields["kwargs"].items()]
    text = ", ".join(arguments)
    text = text if len(text) <= _DETAIL_CHARACTERS_MAX else text[: _DETAIL_CHARACTERS_MAX - 1] + "…"
    return Effect(
        label=f"celery.enqueue.{fields['function']}",
        store="celery",
        access=Access.DURABLE,
        detail=f"enqueue {fields['function']}({text}) on {fields['queue']}",
        faults=faults,
        source=source,
    )


def errors() -> Errors:
    """Either way Celery raises kombu's OperationalError, once task_publish_retry_policy has given up."""
    from kombu.exceptions import OperationalError

    return Errors(
        refused=lambda: OperationalError("[Errno 111] Connection refused"),
        lost=lambda: OperationalError("[Errno 104] Connection reset by peer"),
    )


def plain(value: Any, depth: int = 0) -> Any:
    """A value that can be compared and printed: objects by type and attributes, never by address."""
    if isinstance(value, _PLAIN):
        return value
    if depth > _DEPTH_MAX:
        return f"<{type(value).__qualname__}>"
    if isinstance(value, Mapping):
        if "task" in value and "subtask_type" in value:
            return _signature(value)
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item, depth + 1) for item in value), key=repr)
    attributes = getattr(value, "__dict__", None)
    if attributes and not callable(value):
        return {"type": type(value).__qualname__, **plain(attributes, depth + 1)}
    text = repr(value)
    return f"<{type(value).__qualname__}>" if " at 0x" in text else text


def _signature(value: Any) -> dict[str, Any]:
    """A signature, whose options hold ids that are made up."""
    if not isinstance(value, Mapping):
        return {"task": str(value)}
    return {
        "task": str(value.get("task")),
        "args": [plain(item) for item in value.get("args") or ()],
        "kwargs": {str(key): plain(item) for key, item in (value.get("kwargs") or {}).items()},
    }


def _queue_name(app: Any, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str:
    chosen = {
        key: options[key] for key in ("queue", "exchange", "routing_key") if options.get(key) is not None
    }
    try:
        routed = app.amqp.router.route(dict(chosen), name, args or (), kwargs or {})
    except Exception:
        # A queue that is not declared is the enqueue's own error to raise.
        routed = chosen
    queue = routed.get("queue")
    return str(getattr(queue, "name", queue) or routed.get("routing_key") or app.conf.task_default_queue)


def _is_made_up(task_id: Any) -> bool:
    try:
        return uuid.UUID(str(task_id)).version == 4
    except ValueError:
        return False


def _listed(value: Any) -> Iterable[Any]:
    if value is None:
        return []
    return value if isinstance(value, list | tuple) else [value]
