"""Targets: what a campaign searches, what is known of each, and how that is kept between two campaigns."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from idemfuzz.fuzz.behaviour import Learned
from idemfuzz.model import Plan, PlanError

__all__ = ["Target", "code_of", "restore", "to_json"]

_FEATURES_MAX = 20_000


@dataclass(slots=True)
class Target:
    """One job or test, and what is known of it."""

    name: str
    is_test: bool = False
    draws: bool = False
    """Whether there is more than one example."""
    code: str = ""
    changed: bool = False
    """Whether its code is other than in the last campaign."""
    begun: bool = False
    """Whether it had a turn in this process."""
    learned: Learned = field(default_factory=Learned)
    parents: list[Plan] = field(default_factory=list)
    slices: int = 0
    """In this campaign; with those that it goes on from."""
    trials: int = 0
    examples: int = 0
    seconds: float = 0.0
    gain: float = math.inf
    """New features per second, of late."""
    last_new_at: float = 0.0
    unusable: str = ""
    skipped: str = ""
    """Why it has no more turns, though nothing is wrong with it: its test is skipped."""
    refused: dict[str, int] = field(default_factory=dict)
    not_covered: tuple[str, ...] = ()
    """What the bounded search left out."""


def to_json(target: Target) -> dict[str, Any]:
    return {
        "code": target.code,
        "slices": target.slices,
        "trials": target.trials,
        "examples": target.examples,
        "seconds": round(target.seconds, 1),
        "gain": None if math.isinf(target.gain) else round(target.gain, 4),
        "last_new_at": round(target.last_new_at, 1),
        "parents": [str(plan) for plan in target.parents],
        "passed": sorted(target.learned.passed),
        "fired": sorted(target.learned.fired),
        "not_covered": list(target.not_covered),
        "features": sorted(target.learned.features)[:_FEATURES_MAX],
    }


def restore(target: Target, saved: dict[str, Any]) -> None:
    """As far as it can be read: what is damaged is learned again."""
    with suppress(TypeError, ValueError, KeyError):
        target.slices = int(saved["slices"])
        target.trials = int(saved["trials"])
        target.examples = int(saved["examples"])
        target.seconds = float(saved["seconds"])
        target.gain = math.inf if saved["gain"] is None else float(saved["gain"])
        target.last_new_at = float(saved["last_new_at"])
        target.not_covered = tuple(map(str, saved["not_covered"]))
        learned = target.learned
        learned.features = {text for text in saved["features"] if isinstance(text, str)}
        learned.passed = set(map(str, saved["passed"]))
        learned.fired = set(map(str, saved["fired"]))
        for text in saved["parents"]:
            with suppress(PlanError):
                target.parents.append(Plan.parse(str(text)))


def code_of(functions: Iterable[object]) -> str:
    """A hash of the texts of the files that functions stand in: a change beside a job may change the job."""
    texts = set()
    for function in functions:
        with suppress(TypeError, OSError):
            path = inspect.getsourcefile(inspect.unwrap(function))  # type: ignore[arg-type]
            if path is not None:
                texts.add(Path(path).read_text(encoding="utf-8", errors="replace"))
    return hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:16]
