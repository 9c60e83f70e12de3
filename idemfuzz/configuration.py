"""`[tool.idemfuzz]` in pyproject.toml: options for all jobs, profiles, and what `idemfuzz fuzz` does by default.

Of two that say the same, the nearer one wins: the command line over the job (marker, registration) over the profile over the
table itself. Its JSON Schema is shipped as ``configuration.schema.json``.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idemfuzz.abc import Options, Unusable
from idemfuzz.api import make_options

__all__ = [
    "BUILT_IN",
    "FUZZ_KEYS",
    "OPTION_KEYS",
    "SCHEMA_PATH",
    "Configuration",
    "configuration",
    "table_of",
]

SCHEMA_PATH = Path(__file__).with_name("configuration.schema.json")
OPTION_KEYS = (
    "deliveries",
    "overlapping",
    "faults",
    "isolation",
    "ignore",
    "allow",
    "redelivery_window",
    "max_trials",
    "max_examples",
    "full_read_rows_max",
    "timeout",
    "strict",
    "attempts",
    "seed",
)
"""Options of the marker that a table may set for all jobs."""
FUZZ_KEYS = ("max_time", "max_findings", "faults", "deliveries", "order", "processes")
"""What `[tool.idemfuzz.fuzz]` may set: the options of `idemfuzz fuzz`."""
_OWN_KEYS = ("fuzz", "example_databases")
_TOP_KEYS = (*OPTION_KEYS, *_OWN_KEYS, "profile", "profiles")

BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "dev": {},
    "ci": {"max_examples": 30, "fuzz": {"max_time": "5m"}},
    "nightly": {"max_examples": 100, "max_trials": 2000, "deliveries": 4, "fuzz": {"max_time": "30m"}},
}
"""Profiles that are always there; a table of the same name adds to one."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the table and the chosen profile amount to."""

    profile: str = "dev"
    options: Mapping[str, Any] = field(default_factory=dict)
    fuzz: Mapping[str, Any] = field(default_factory=dict)
    example_databases: tuple[str, ...] = ()
    """Hypothesis' example databases, as texts."""

    def merged(self, job: Mapping[str, Any], command_line: Mapping[str, Any]) -> Options:
        """The options of one job.

        Raises:
            Unusable: one is unknown, or has an unusable value.
        """
        return make_options({**self.options, **job, **command_line})


def configuration(root: Path, profile: str | None = None) -> Configuration:
    """Read the table of ``root``'s pyproject.toml; none at all is an empty one.

    ``profile`` is what the command line says; else the variable IDEMFUZZ_PROFILE, then the table's own ``profile``.

    Raises:
        Unusable: a key is unknown, a value unusable, or the profile is not there; the message says where.
    """
    path = root / "pyproject.toml"
    table = table_of(path)
    _check_keys(table, _TOP_KEYS, "[tool.idemfuzz]", path)
    own = table.get("profiles", {})
    if not isinstance(own, dict) or not all(isinstance(value, dict) for value in own.values()):
        raise Unusable(
            f"{path}: profiles={own!r:.100} is not usable; expected tables [tool.idemfuzz.profiles.NAME]"
        )
    for name, values in own.items():
        where = f"[tool.idemfuzz.profiles.{name}]"
        _check_keys(values, (*OPTION_KEYS, *_OWN_KEYS), where, path)
        _read(values, where, path)
    _read(
        {key: value for key, value in table.items() if key not in ("profile", "profiles")},
        "[tool.idemfuzz]",
        path,
    )
    chosen = profile or os.environ.get("IDEMFUZZ_PROFILE") or table.get("profile", "dev")
    known = {*BUILT_IN, *own}
    if not isinstance(chosen, str) or chosen not in known:
        raise Unusable(
            f"there is no profile {chosen!r}{_meant(str(chosen), known)}; there are {', '.join(sorted(known))}"
        )
    layers: list[Mapping[str, Any]] = [table, BUILT_IN.get(chosen, {}), own.get(chosen, {})]
    options: dict[str, Any] = {}
    fuzz: dict[str, Any] = {}
    databases: tuple[str, ...] = ()
    for layer in layers:
        options.update({key: value for key, value in layer.items() if key in OPTION_KEYS})
        fuzz.update(layer.get("fuzz", {}))
        databases = _texts(layer["example_databases"]) if "example_databases" in layer else databases
    return Configuration(chosen, options, fuzz, databases)


def table_of(path: Path) -> dict[str, Any]:
    """``[tool.idemfuzz]`` of a file; an empty one where there is none.

    Raises:
        Unusable: the file cannot be read, or holds something else there.
    """
    try:
        with path.open("rb") as file:
            tools = tomllib.load(file).get("tool", {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    if not isinstance(tools, dict):
        raise Unusable(f"{path}: tool={tools!r:.100} is not usable; expected tables [tool.NAME]")
    table = tools.get("idemfuzz", {})
    if not isinstance(table, dict):
        raise Unusable(
            f"{path}: tool.idemfuzz={table!r:.100} is not usable; expected a table [tool.idemfuzz]"
        )
    return table


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str, path: Path) -> None:
    for key in table:
        if key not in known:
            raise Unusable(
                f"{path}: {where} has the unknown key {key!r}{_meant(key, known)}. The keys are {', '.join(sorted(known))}"
            )


def _meant(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key.replace("-", "_"), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _read(values: Mapping[str, Any], where: str, path: Path) -> None:
    """Refuse unusable values where they stand, also in profiles that are not chosen."""
    try:
        make_options({key: value for key, value in values.items() if key in OPTION_KEYS})
    except Unusable as error:
        raise Unusable(f"{path}: {where}: {error}") from error
    fuzz = values.get("fuzz", {})
    inner = f"{where[:-1]}.fuzz]"
    if not isinstance(fuzz, dict):
        raise Unusable(f"{path}: {where}: fuzz={fuzz!r:.100} is not usable; expected a table {inner}")
    _check_keys(fuzz, FUZZ_KEYS, inner, path)
    for key, value in fuzz.items():
        usable, expected = _FUZZ_VALUES[key]
        if not usable(value):
            raise Unusable(f"{path}: {inner}: {key}={value!r} is not usable; expected {expected}")
    if "example_databases" in values:
        given = values["example_databases"]
        if not isinstance(given, str) and not (
            isinstance(given, list) and all(isinstance(text, str) for text in given)
        ):
            raise Unusable(
                f"{path}: {where}: example_databases={given!r} is not usable; expected a text or a list of texts"
            )


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _whole(least: int, most: int | None = None) -> tuple[Callable[[Any], bool], str]:
    def usable(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return value >= least and (most is None or value <= most)

    return usable, f"a whole number from {least}" + (f" to {most}" if most is not None else "")


def _is_time(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return 0 < value < math.inf
    if not isinstance(value, str):
        return False
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?", value)
    return found is not None and float(found[1]) > 0


_FUZZ_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_time": (_is_time, 'a time, as in "30m", or a number of seconds'),
    "max_findings": _whole(1),
    "faults": _whole(1, 9),
    "deliveries": _whole(2, 9),
    "order": _whole(2, 9),
    "processes": _whole(1, 64),
}
