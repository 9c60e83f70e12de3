"""Examples: the arguments and the starting state of a Job in one search, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.model.values import ValueFormError, decode, encode


@dataclass(frozen=True)
class Example:
    """What was drawn for one search. For a test, ``kwargs`` are what it is called with, fixtures apart."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None

    def to_json(self) -> dict[str, Any]:
        """Its JSON form.

        Raises:
            ValueFormError: a value in it has none.
        """
        return {
            "args": [encode(value) for value in self.args],
            "kwargs": {name: encode(value) for name, value in self.kwargs.items()},
            "state": encode(self.state),
        }

    @classmethod
    def from_json(cls, data: Any) -> Example:
        """Read what `to_json` wrote.

        Raises:
            ValueFormError: it is something else.
        """
        if not isinstance(data, dict) or not isinstance(data.get("kwargs", {}), dict):
            raise ValueFormError(f"{data!r:.200} is no example")
        args = decode(data.get("args", []))
        if not isinstance(args, list):
            raise ValueFormError(f"the arguments {args!r:.200} are no list")
        kwargs = {str(name): decode(value) for name, value in data.get("kwargs", {}).items()}
        return cls(tuple(args), kwargs, decode(data.get("state")))
