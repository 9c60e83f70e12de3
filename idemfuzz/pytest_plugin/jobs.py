"""Registered jobs as items of their own."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from idemfuzz import api
from idemfuzz.model import Plan
from idemfuzz.pytest_plugin.options import WORK, judged_for, merged
from idemfuzz.pytest_plugin.outcome import command_for, conclude, failures
from idemfuzz.session import Progress

__all__ = ["JobItem", "job_items"]


class JobItem(pytest.Item):
    """A job made known with `idemfuzz.register`, as a test of its own."""

    registration: api.Registration

    def runtest(self) -> None:
        from idemfuzz.fuzz.examples import search_job
        from idemfuzz.fuzz.subject import JobSubject

        with failures(self):
            registration = self.registration
            options = merged(self.config, registration.options)

            def listener(progress: Progress) -> None:
                self.ihook.pytest_idemfuzz_progress(nodeid=self.nodeid, progress=progress)

            def command(plan: Plan) -> str:
                return command_for(registration.target, plan)

            work = self.config.stash.get(WORK, None)
            if work is not None:
                work(JobSubject(registration, options, listener, command))
                return
            report, example = search_job(
                registration, options, listener=listener, command=command, judged=judged_for(self)
            )
            conclude(self, report, example)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        function = getattr(self.registration.job, "__wrapped__", self.registration.job)
        code = getattr(function, "__code__", None)
        path = Path(code.co_filename) if code is not None else self.path
        return path, code.co_firstlineno - 1 if code is not None else None, f"idemfuzz {self.name}"


def job_items(session: pytest.Session) -> list[pytest.Item]:
    """Items for the registered jobs; with modules named, for those of these modules alone."""
    wanted = session.config.option.idemfuzz_module
    for target in wanted:
        module = target.partition(":")[0]
        try:
            importlib.import_module(module)
        except Exception as error:
            # Whatever a module's own code raises.
            told = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise pytest.UsageError(f"--idemfuzz-module {target!r} cannot be imported: {told}") from error
    chosen = list(_chosen(wanted)) if wanted else [r for r in api.registrations if r.callable_now]
    items: list[pytest.Item] = []
    for registration in chosen:
        item = JobItem.from_parent(session, name=registration.name, nodeid=registration.target)
        item.registration = registration
        items.append(item)
    return items


def _chosen(wanted: Iterable[str]) -> Iterator[api.Registration]:
    for target in wanted:
        module, _, name = target.partition(":")
        found = [
            r
            for r in api.registrations
            if r.module == module and (not name or getattr(r.job, "__qualname__", "") == name)
        ]
        if name and not found:
            found = [_unregistered(module, name)]
        if not found:
            raise pytest.UsageError(
                f"{target!r} registers no job; call idemfuzz.register(job, args=..., stores=...) in it, or name a function"
            )
        yield from found


def _unregistered(module: str, name: str) -> api.Registration:
    job: Any = importlib.import_module(module)
    try:
        for part in name.split("."):
            job = getattr(job, part)
    except AttributeError as error:
        raise pytest.UsageError(f"'{module}:{name}' does not exist: {error}") from error
    return api.Registration(job, name=f"{module}:{name}", runnable=False, module=module)
