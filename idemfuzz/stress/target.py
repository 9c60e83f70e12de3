"""The job of a run: found by its name, and refused where a worker could not find it or the queue could not carry it."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from idemfuzz import import_path
from idemfuzz.abc import Unusable
from idemfuzz.api import Registration, registrations

__all__ = ["Target", "check_target", "find_target"]

_EXPECTED = "Expected module:function, as a worker imports it, or a file jobs.py:function"


@dataclass(frozen=True, slots=True)
class Target:
    """The job of a run, as it was registered."""

    registration: Registration
    name: str

    @property
    def function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = self.registration.job
        return function

    def arguments(self, number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the ``number``-th job."""
        return self.registration.arguments(number), dict(self.registration.kwargs)

    @property
    def varies(self) -> bool:
        return self.registration.varies

    def check_sendable(self, jobs: int) -> None:
        """Whether the arguments of the first ``jobs`` jobs can be put into a queue.

        Raises:
            Unusable: they cannot be made, or cannot be pickled.
        """
        for number in range(jobs if self.varies else 1):
            try:
                arguments = self.arguments(number)
            except Unusable:
                raise
            except Exception as error:
                raise Unusable(
                    f"{self.name}: args({number}) fails: {_first_line(error)}. The function given to idemfuzz.register(args=...) "
                    f"is called with the numbers from 0 to {jobs - 1}, and returns a tuple"
                ) from error
            try:
                pickle.dumps(arguments)
            except Exception as error:
                which = f", of job {number}," if self.varies else ""
                raise Unusable(
                    f"the arguments of {self.name}{which} cannot be put into a queue: {_first_line(error)}. RQ pickles them: pass plain "
                    "values, such as ids, and let the job look up the rest"
                ) from error

    def prepare(self) -> None:
        """Run the target's ``setup``: once, before the baseline is remembered.

        Raises:
            Unusable: it fails.
        """
        setup = self.registration.setup
        if setup is None:
            return
        try:
            setup()
        except Exception as error:
            raise Unusable(f"the setup of {self.name} fails: {_first_line(error)}") from error


def check_target(text: str) -> None:
    """Whether there is such a file or module, without importing it: before servers are started for it.

    Raises:
        Unusable: there is none.
    """
    module = text.partition(":")[0]
    if module.endswith(".py"):
        if not Path(module).is_file():
            raise Unusable(f"TARGET {text!r}: there is no file {module!r} in {os.getcwd()}")
        return
    try:
        found = import_path.is_findable(module)
    except ImportError as error:
        raise Unusable(f"TARGET {text!r}: {module!r} cannot be imported ({error}). {_EXPECTED}") from error
    if not found:
        raise Unusable(
            f"TARGET {text!r}: there is no module {module!r}, neither installed nor in {os.getcwd()}. {_EXPECTED}"
        )


def find_target(text: str) -> Target:
    """The registered job that ``module:function``, ``module`` or ``file.py:function`` names.

    Raises:
        Unusable: there is none, or several, or a worker could not import it.
    """
    check_target(text)
    module_name, _, function_name = text.partition(":")
    if module_name.endswith(".py"):
        module_name = import_path.name_of(Path(module_name))
    known = len(registrations)
    module = _imported(module_name, text)
    found = [r for r in registrations if r.module == module.__name__ or r in registrations[known:]]
    if function_name:
        found = [r for r in found if getattr(r.job, "__qualname__", "") == function_name]
        if not found:
            found = [_unregistered(module, function_name, text)]
    if not found:
        raise Unusable(
            f"TARGET {text!r}: {module_name} registers no job. Add idemfuzz.register(job, args=...), or name a function as "
            f"{module_name}:function"
        )
    if len(found) > 1:
        names = ", ".join(f"{module_name}:{r.job.__qualname__}" for r in found)
        raise Unusable(f"TARGET {text!r} names {len(found)} jobs; choose one of {names}")
    return _importable(found[0])


def _imported(name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Unusable:
        raise
    except Exception as error:
        raise Unusable(
            f"TARGET {text!r}: {name!r} cannot be imported, here nor by a worker: {_first_line(error)}. It sees DATABASE_URL and "
            "REDIS_URL; --env NAME=TEXT sets what else it needs"
        ) from error


def _unregistered(module: ModuleType, name: str, text: str) -> Registration:
    function = getattr(module, name, None)
    if callable(function):
        return Registration(
            function, module=module.__name__, name=f"{module.__name__}:{name}", runnable=False
        )
    functions = [known for known, value in vars(module).items() if inspect.isfunction(value)]
    close = get_close_matches(name, functions, n=1)
    raise Unusable(
        f"TARGET {text!r}: {module.__name__} has no function {name!r}"
        + (f"; did you mean {close[0]!r}?" if close else "")
    )


def _importable(registration: Registration) -> Target:
    job = registration.job
    module, name = getattr(job, "__module__", ""), getattr(job, "__qualname__", "")
    if not inspect.isfunction(job) or "<" in name or module in ("", "__main__"):
        if "<lambda>" in name:
            what = "a lambda"
        elif "<" in name:
            what = "a function within a function"
        elif module == "__main__":
            what = "made in __main__, which is another module in each process: a script or a notebook"
        else:
            what = f"no function but {type(job).__name__} in {module}"
        raise Unusable(
            f"{registration.name} cannot be imported by a worker process: it is {what}. A job for real workers is a function at "
            "the top level of a module"
        )
    if inspect.iscoroutinefunction(job):
        raise Unusable(
            f"{registration.name} is a coroutine function, which a stress run cannot watch; use `idemfuzz run`"
        )
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not job:
        raise Unusable(
            f"{module}:{name} is not the registered job but {found!r}: a worker, which imports it by name, would run that"
        )
    if not registration.callable_now:
        raise Unusable(
            f"{registration.name} takes arguments and was registered without; idemfuzz.register({name}, args=(...)), or "
            "args=lambda n: (...) for different ones"
        )
    target = Target(registration, f"{module}.{name}")
    target.check_sendable(1)
    return target


def _first_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
