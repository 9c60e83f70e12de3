"""The inventory itself: each job with what its source does, its test, and what the last search said."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from idemfuzz.abc import Unusable
from idemfuzz.inventory.jobs import Enqueued, Job, found_jobs, job_sources
from idemfuzz.inventory.operations import Operation, operations_of, strategy_of
from idemfuzz.inventory.source import Module, Sources, fingerprint, shown_path
from idemfuzz.inventory.verdicts import Verdict, Verdicts

__all__ = ["Entry", "Inventory", "take_inventory"]

_STRATEGIES = {
    "unique key": "unique constraint",
    "condition": "conditional write",
    "row lock": "lock",
    "advisory lock": "lock",
    "Redis lock": "lock",
    "isolation level": "isolation level",
    "only if new": "claim in Redis (NX)",
    "watched keys": "WATCH and MULTI",
    "one transaction": "WATCH and MULTI",
}


@dataclass(slots=True)
class Entry:
    """One job of the application."""

    job: Job
    operations: list[Operation] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    """Marked tests that name it, or whose search has delivered it, and its registrations."""
    last: Verdict | None = None
    """The worst of the last verdicts of its tests."""
    outdated: bool = False
    """Whether the job's source reads otherwise than when it was searched."""
    guessed: list[str] = field(default_factory=list)
    """Strategies that the source shows."""

    @property
    def strategies(self) -> list[str]:
        """What was proven to carry it; where nothing was, what the source shows."""
        if self.last is not None and self.last.carried:
            kinds = (carried.rpartition("|")[2] for carried in self.last.carried)
            return list(dict.fromkeys(_STRATEGIES.get(kind, kind) for kind in kinds))
        return self.guessed

    @property
    def is_proven(self) -> bool:
        return self.last is not None and bool(self.last.carried)

    @property
    def holds(self) -> bool:
        """Whether its last verdict is that it holds, and is about the source as it is."""
        return self.last is not None and self.last.verdict == "holds" and not self.outdated

    @property
    def status(self) -> str:
        """In a word or three."""
        if self.last is not None:
            return f"{self.last.verdict}, changed since" if self.outdated else self.last.verdict
        return "not run" if self.tests else "no test"


@dataclass(frozen=True, slots=True)
class Inventory:
    entries: Sequence[Entry]
    unknown: Sequence[Enqueued]
    """Lines that hand over what the text does not tell."""
    unreadable: Sequence[tuple[Path, str]]

    @property
    def percent(self) -> float:
        """How many of a hundred jobs hold; a hundred of none."""
        holding = sum(entry.holds for entry in self.entries)
        return 100.0 * holding / len(self.entries) if self.entries else 100.0


def take_inventory(
    paths: Sequence[Path], root: Path, *, imported: Iterable[tuple[str, str]] = ()
) -> Inventory:
    """Read the files below ``paths``, and the verdicts below ``root``.

    ``imported`` are further jobs, as name and queue, that were found by importing.

    Raises:
        Unusable: a path is not there, or the verdicts cannot be read.
    """
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise Unusable(
            f"there is no file or folder {str(missing)!r}; name a folder of the application's source"
        )
    sources = Sources(paths)
    jobs, unknown = found_jobs(sources, job_sources(), root)
    known = {job.name: job for job in jobs}
    verdicts = Verdicts(root).all()
    delivered = {name: "delivered by a test" for verdict in verdicts.values() for name in verdict.jobs}
    for name, queue in {**delivered, **dict(_registered(sources)), **dict(imported)}.items():
        if name not in known:
            found = sources.function(name)
            if found is not None:
                module, _, function = found
                known[name] = Job(
                    name, queue, shown_path(module.path, root), function.lineno, [], module, function
                )
    tests = _tests(sources, known, root)
    entries = [_entry(sources, job, tests, verdicts, root) for job in known.values()]
    entries.sort(key=lambda entry: (not entry.job.file, entry.job.name))
    return Inventory(entries, unknown, sources.unreadable)


def _entry(
    sources: Sources, job: Job, tests: Mapping[str, list[str]], verdicts: Mapping[str, Verdict], root: Path
) -> Entry:
    entry = Entry(job, tests=list(tests.get(job.name, ())))
    if job.module is not None and job.function is not None:
        entry.operations = operations_of(sources, job.module, job.function, root)
        entry.guessed = strategy_of(sources, job.module, job.function)
    mine = [verdict for verdict in verdicts.values() if job.name in verdict.jobs]
    for verdict in mine:
        # A parametrised test has a verdict for each of its parameters.
        if verdict.target.partition("[")[0] not in entry.tests:
            entry.tests.append(verdict.target.partition("[")[0])
    if mine:
        entry.last = max(
            mine, key=lambda verdict: (("holds", "unknown", "violated").index(verdict.verdict), verdict.at)
        )
        then = entry.last.fingerprints.get(job.name)
        entry.outdated = then is not None and job.function is not None and then != fingerprint(job.function)
    return entry


# -- tests ---------------------------------------------------------------------------------------------------


def _tests(sources: Sources, jobs: Mapping[str, Job], root: Path) -> dict[str, list[str]]:
    """Job -> the marked tests that name it, and the places where it is registered."""
    found: dict[str, list[str]] = {}
    for module in sources.modules.values():
        everything = any(_marks(node) for node in module.tree.body if _is_pytestmark(node))
        for qualified, function in module.functions.items():
            name = qualified.rpartition(".")[2]
            if not name.startswith("test") or not (everything or _is_marked(module, function)):
                continue
            shown = f"{shown_path(module.path, root)}::{qualified.replace('.', '::')}"
            for job in _named(sources, module, function, jobs):
                if shown not in found.setdefault(job, []):
                    found[job].append(shown)
        for call in module.calls:
            if (
                sources.resolve(module, call.func) in ("idemfuzz.register", "idemfuzz.api.register")
                and call.args
            ):
                job = sources.follow(sources.resolve(module, call.args[0]))
                if job in jobs:
                    found.setdefault(job, []).append(
                        f"{shown_path(module.path, root)}:{call.lineno} (registered)"
                    )
    return found


def _registered(sources: Sources) -> Iterable[tuple[str, str]]:
    for module in sources.modules.values():
        for call in module.calls:
            if (
                sources.resolve(module, call.func) in ("idemfuzz.register", "idemfuzz.api.register")
                and call.args
            ):
                yield sources.follow(sources.resolve(module, call.args[0])), "registered"


def _is_pytestmark(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in targets)


def _is_marked(module: Module, function: ast.AST) -> bool:
    arguments = getattr(function, "args", None)
    if arguments is not None and any(a.arg == "deliver" for a in (*arguments.args, *arguments.kwonlyargs)):
        return True
    above: ast.AST | None = function
    while above is not None and not isinstance(above, ast.Module):
        if any(_marks(decorator) for decorator in getattr(above, "decorator_list", ())):
            return True
        above = module.parents.get(above)
    return False


def _marks(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.Attribute) and inner.attr == "idempotent" for inner in ast.walk(node))


def _named(sources: Sources, module: Module, function: ast.AST, jobs: Mapping[str, Job]) -> Iterable[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Name | ast.Attribute):
            meant = sources.follow(sources.resolve(module, node, function))
            if meant in jobs:
                yield meant
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            meant = node.value.replace(":", ".")
            if meant in jobs:
                yield meant
