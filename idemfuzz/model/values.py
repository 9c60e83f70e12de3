"""Plain values as JSON and back: the arguments and starting states that a saved finding needs. Never pickle.

What JSON does not know is tagged with one key that begins with ``$``: ``{"$tuple": [...]}``, ``{"$datetime": iso}``,
``{"$decimal": text}``, ``{"$uuid": text}``, ``{"$bytes": base64}``, ``{"$set": [...]}``, ``{"$float": "nan"}``, ``{"$enum":
["module:Class", name]}``, ``{"$object": ["module:Class", {field: value}]}`` for dataclasses and named tuples, ``{"$dict":
[[key, value]]}`` where keys are no plain texts. Reading imports nothing: a class must have been imported by the job's own code.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import math
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["ValueFormError", "decode", "encode"]

_DEPTH_MAX = 60


class ValueFormError(ValueError):
    """A value that has no JSON form, or a JSON form that is none of ours; the message says which."""


def encode(value: Any, depth: int = 0) -> Any:
    """The JSON form of a value.

    Raises:
        ValueFormError: it, or something in it, is no plain value.
    """
    if depth > _DEPTH_MAX:
        raise ValueFormError("the value is nested too deeply")
    if isinstance(value, enum.Enum):
        return {"$enum": [_path_of(type(value)), value.name]}
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is list:
        return [encode(inner, depth + 1) for inner in value]
    if type(value) is dict:
        return _encoded_mapping(value, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return {"$object": [_path_of(type(value)), {k: encode(v, depth + 1) for k, v in known.items()}]}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        known = value._asdict()
        return {"$object": [_path_of(type(value)), {k: encode(v, depth + 1) for k, v in known.items()}]}
    for tag, kind, write, _ in _FORMS:
        if type(value) is kind:
            return {tag: write(value, depth)}
    raise ValueFormError(f"{value!r:.200} ({type(value).__qualname__}) has no JSON form")


def decode(data: Any) -> Any:
    """The value of a JSON form.

    Raises:
        ValueFormError: it is none of ours, or names a class that is not there.
    """
    if isinstance(data, list):
        return [decode(inner) for inner in data]
    if not isinstance(data, dict):
        return data
    tags = [key for key in data if key.startswith("$")]
    if not tags:
        return {key: decode(inner) for key, inner in data.items()}
    (tag, content), *more = data.items()
    if more:
        raise ValueFormError(f"{data!r:.200} has a tag among other keys")
    try:
        return _decoded(tag, content)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        if isinstance(error, ValueFormError):
            raise
        raise ValueFormError(f"{data!r:.200} cannot be read: {error!r}") from error


def _encoded_mapping(value: Mapping[Any, Any], depth: int) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(inner, depth + 1) for key, inner in value.items()}
    return {"$dict": [[encode(key, depth + 1), encode(inner, depth + 1)] for key, inner in value.items()]}


def _decoded(tag: str, content: Any) -> Any:
    if tag == "$dict":
        return {decode(key): decode(inner) for key, inner in content}
    if tag == "$enum":
        path, name = content
        kind = _class_of(path)
        if not issubclass(kind, enum.Enum):
            raise ValueFormError(f"{path!r} is no Enum")
        return kind[name]
    if tag == "$object":
        path, known = content
        kind = _class_of(path)
        if not (dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))):
            raise ValueFormError(f"{path!r} is neither a dataclass nor a named tuple")
        return kind(**{name: decode(inner) for name, inner in known.items()})
    for known_tag, _, _, read in _FORMS:
        if tag == known_tag:
            return read(content)
    raise ValueFormError(f"the tag {tag!r} is not known")


def _path_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class_of(path: str) -> type:
    """A class of a module that is loaded: a file does not make code run."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise ValueFormError(f"the class {path!r} is not there (any more)")
    return found


def _items(value: Any, depth: int) -> list[Any]:
    return [encode(inner, depth + 1) for inner in value]


def _sorted_items(value: Any, depth: int) -> list[Any]:
    return [encode(inner, depth + 1) for inner in sorted(value, key=repr)]


_FORMS: tuple[tuple[str, type, Callable[[Any, int], Any], Callable[[Any], Any]], ...] = (
    ("$tuple", tuple, _items, lambda items: tuple(decode(inner) for inner in items)),
    ("$set", set, _sorted_items, lambda items: {decode(inner) for inner in items}),
    ("$frozenset", frozenset, _sorted_items, lambda items: frozenset(decode(inner) for inner in items)),
    ("$float", float, lambda value, _: repr(value), float),
    ("$complex", complex, lambda value, _: repr(value), complex),
    ("$bytes", bytes, lambda value, _: base64.b64encode(value).decode("ascii"), base64.b64decode),
    ("$datetime", datetime.datetime, lambda value, _: value.isoformat(), datetime.datetime.fromisoformat),
    ("$date", datetime.date, lambda value, _: value.isoformat(), datetime.date.fromisoformat),
    ("$time", datetime.time, lambda value, _: value.isoformat(), datetime.time.fromisoformat),
    (
        "$timedelta",
        datetime.timedelta,
        lambda value, _: [value.days, value.seconds, value.microseconds],
        lambda parts: datetime.timedelta(parts[0], parts[1], parts[2]),
    ),
    ("$decimal", decimal.Decimal, lambda value, _: str(value), decimal.Decimal),
    ("$uuid", uuid.UUID, lambda value, _: str(value), uuid.UUID),
)
