"""Catching calls of a plain function wherever it was imported to.

The function's code object is replaced by a trampoline, so that every reference to it (``from app.jobs import
create_user``, a registry, a decorator's closure) is caught; the body lives on in a twin function. `inspect` shows
the signature that it had.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from inspect import CO_COROUTINE
from types import CodeType, FunctionType
from typing import Any

from idemfuzz.abc import Unusable


def _trampoline(*args: Any, **kwargs: Any) -> Any:
    target: Any = "target"  # This constant is replaced by the real target.
    return target(*args, **kwargs)


async def _coroutine_trampoline(*args: Any, **kwargs: Any) -> Any:
    target: Any = "target"
    return await target(*args, **kwargs)


def coded(target: Callable[..., Any], like: CodeType) -> CodeType:
    """Code that calls ``target`` instead, for a function whose own code is ``like``."""
    # Whoever asks whether it is a coroutine function must get the same answer.
    code = (_coroutine_trampoline if like.co_flags & CO_COROUTINE else _trampoline).__code__
    constants = tuple(target if constant == "target" else constant for constant in code.co_consts)
    return code.replace(
        co_consts=constants,
        co_name=like.co_name,
        co_qualname=like.co_qualname,
        co_freevars=like.co_freevars,
    )


class Interception:
    """Catches every call of ``function`` between `install` and `remove`; ``body`` is what it really does.

    The handler of a coroutine function returns something to await.
    """

    def __init__(self, function: Callable[..., Any], handler: Callable[..., Any]) -> None:
        if not isinstance(function, FunctionType):
            raise Unusable(
                f"{function!r} is not a Python function, so its calls cannot be caught; "
                "name the plain function behind it with job="
            )
        self._function = function
        self._code = function.__code__
        self._handler = handler
        self._signed = False
        self.body = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        self.body.__kwdefaults__ = function.__kwdefaults__
        self.body.__qualname__ = function.__qualname__
        self.body.__module__ = function.__module__

    def install(self) -> None:
        if "__signature__" not in vars(self._function):
            # The body is asked for it at each call.
            signature = self.body.__signature__ = inspect.signature(self.body)  # type: ignore[attr-defined]
            self._function.__signature__ = signature  # type: ignore[attr-defined]
            self._signed = True
        self._function.__code__ = coded(self._handler, self._code)

    def remove(self) -> None:
        self._function.__code__ = self._code
        if self._signed:
            del self._function.__signature__  # type: ignore[attr-defined]
            self._signed = False
