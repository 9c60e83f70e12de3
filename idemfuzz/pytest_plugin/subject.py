"""Marked tests as subjects: a search of what a test and its fixtures bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from idemfuzz import api
from idemfuzz.abc import Options, Unusable
from idemfuzz.model import Example, Report
from idemfuzz.pytest_plugin import DELIVER
from idemfuzz.pytest_plugin.fixtures import known_jobs, values_of
from idemfuzz.pytest_plugin.options import marker_arguments, options_of
from idemfuzz.pytest_plugin.outcome import command_for
from idemfuzz.session import Progress, Session

if TYPE_CHECKING:
    from idemfuzz.fuzz.pursuit import Pursuit


__all__ = ["Deliver", "TestSubject", "publish", "session_of"]


class Deliver:
    """The ``deliver`` fixture: calls a job as a delivery, registered or not."""

    def __init__(self) -> None:
        self.session: Session | None = None

    def __call__(self, job: Any, /, *args: Any, **kwargs: Any) -> Any:
        if self.session is None:
            raise Unusable(
                "deliver(...) was called outside the test's body, for instance in a fixture; call it in the test"
            )
        return self.session.deliver(job, *args, **kwargs)


class TestSubject:
    """A marked test without ``@given``, for a fuzzer or a replay."""

    draws = False

    def __init__(self, item: pytest.Function, scenario: Callable[[], Any]) -> None:
        self._item = item
        self._scenario = scenario
        self.options = options_of(item)

    def search(self, example: Example | None) -> Callable[..., Report]:
        return lambda options, **more: session_of(self._item, self._scenario, options, **more).run()

    def pursue(self, pursuit: Pursuit, seed: int) -> tuple[Example | None, Report] | None:
        from idemfuzz.fuzz.subject import once

        return once(self, pursuit)


def session_of(item: pytest.Function, scenario: Callable[[], Any], options: Options, **more: Any) -> Session:
    marker = marker_arguments(item)
    values = values_of(item, marker.get("stores"))
    jobs = api.listed(marker.get("job"))
    session = Session(
        item.nodeid,
        scenario,
        values,
        jobs or list(known_jobs(item, values)),
        options,
        only=bool(jobs),
        listener=lambda progress: publish(item, progress),
        command=lambda plan: command_for(item.nodeid, plan),
        **more,
    )
    deliver = item.stash.get(DELIVER, None)
    if deliver is not None:
        deliver.session = session
    return session


def publish(item: pytest.Item, progress: Progress) -> None:
    item.ihook.pytest_idemfuzz_progress(nodeid=item.nodeid, progress=progress)
