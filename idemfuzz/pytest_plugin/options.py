"""Options of searches in pytest: of the command line, the marker, the profile and the project's table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from idemfuzz import api, baseline, corpus
from idemfuzz.abc import Options, Unusable
from idemfuzz.configuration import Configuration, configuration
from idemfuzz.model import PlanError, Report
from idemfuzz.pytest_plugin import MARKER

__all__ = [
    "WORK",
    "accepted",
    "check_options",
    "command_line",
    "configured_for",
    "judged_for",
    "marker_arguments",
    "merged",
    "options_of",
    "part_of",
]

WORK: pytest.StashKey[Any] = pytest.StashKey()
"""What is done with each subject in place of a plain search: by a fuzzer, or a replay."""
_CONFIGURED: pytest.StashKey[Configuration] = pytest.StashKey()
_DATABASE: pytest.StashKey[Any] = pytest.StashKey()
_ACCEPTED: pytest.StashKey[list[baseline.Accepted]] = pytest.StashKey()
_NOT_OPTIONS = ("job", "stores")


def check_options(config: pytest.Config) -> None:
    """Refuse unusable command line options before anything runs, and make ready for report files."""
    option = config.option
    try:
        configured_for(config)
        if option.idemfuzz_shard:
            part_of(option.idemfuzz_shard)
        command_line(config)
        accepted(config)
        asked = [*option.idemfuzz_report]
        asked += [f"html={option.idemfuzz_html}"] if option.idemfuzz_html else []
        if asked:
            from idemfuzz.pytest_plugin.reports import ReportFiles
            from idemfuzz.reporting.files import targets

            wanted = targets(asked)
            if not hasattr(config, "workerinput"):
                config.pluginmanager.register(ReportFiles(wanted), "idemfuzz-reports")
    except Unusable as error:
        raise pytest.UsageError(str(error)) from error


def command_line(config: pytest.Config) -> dict[str, Any]:
    option = config.option
    given: dict[str, Any] = {}
    if option.idemfuzz_plan:
        try:
            given["plan"] = corpus.load(option.idemfuzz_plan)
        except PlanError as error:
            raise Unusable(str(error)) from error
    if option.idemfuzz_max_trials is not None:
        given["max_trials"] = option.idemfuzz_max_trials
    if option.idemfuzz_seed is not None:
        given["seed"] = option.idemfuzz_seed
    if option.idemfuzz_prove:
        given["prove"] = True
    if option.idemfuzz_redact:
        given["redact"] = option.idemfuzz_redact
    api.make_options(given)
    return given


def marker_arguments(item: pytest.Item) -> dict[str, Any]:
    """The nearest marker wins, option by option."""
    merged: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(MARKER))):
        if marker.args:
            raise Unusable(f"takes keyword options only, got {marker.args!r}")
        merged.update(marker.kwargs)
    return merged


def options_of(item: pytest.Item) -> Options:
    given = {key: value for key, value in marker_arguments(item).items() if key not in _NOT_OPTIONS}
    return merged(item.config, given)


def merged(config: pytest.Config, job: Mapping[str, Any]) -> Options:
    """The command line over the job over the profile over the table of the project."""
    configured = configured_for(config)
    given = command_line(config)
    options = configured.merged(job, given)
    # What is hidden is added up: nobody who asks for less on the command line means a secret.
    hidden = dict.fromkeys((*configured.merged(job, {}).redact, *options.redact))
    database = config.stash.get(_DATABASE, None)
    extra = {} if database is None else {"example_database": database}
    allow = (*options.allow, *config.getini("idemfuzz_allow"))
    return replace(options, allow=allow, redact=tuple(hidden), extra=extra)


def configured_for(config: pytest.Config) -> Configuration:
    """``[tool.idemfuzz]`` of the project, read once.

    Raises:
        Unusable: it cannot be used.
    """
    known = config.stash.get(_CONFIGURED, None)
    if known is None:
        known = configuration(config.rootpath, config.option.idemfuzz_profile)
        config.stash[_CONFIGURED] = known
        if known.example_databases:
            from idemfuzz.fuzz.databases import example_database

            config.stash[_DATABASE] = example_database(known.example_databases, config.rootpath)
    return known


def accepted(config: pytest.Config) -> Sequence[baseline.Accepted]:
    """The baseline, read once."""
    known = config.stash.get(_ACCEPTED, None)
    if known is None:
        known = config.stash[_ACCEPTED] = baseline.read(config.rootpath)
    return known


def judged_for(item: pytest.Item) -> Callable[[Report], Report]:
    """What the baseline makes of a search's report; of one given plan nothing, for whoever asks for it wants to see it."""
    if item.config.option.idemfuzz_plan:
        return lambda report: report
    known = accepted(item.config)
    return lambda report: baseline.applied(report, item.nodeid, known)


def part_of(text: str) -> tuple[int, int]:
    """``2/4``: the second of four parts.

    Raises:
        Unusable: it is no such text.
    """
    number, slash, parts = text.partition("/")
    if slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts):
        return int(number), int(parts)
    raise Unusable(f"the shard {text!r} is not usable; expected I/N with I from 1 to N, as in 2/4")
