"""Which functions are jobs: what is decorated as one, and what is handed to a queue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from idemfuzz.inventory.source import Function, Module, Sources, shown_path

__all__ = ["RQ", "Enqueued", "Job", "JobSource", "found_jobs", "job_sources"]

_ENTRY_POINTS = "idemfuzz.inventory"
_ROUNDS_MAX = 6
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, slots=True)
class JobSource:
    """How jobs of one kind of queue are recognised in source text.

    ``decorators`` match the dotted name of a decorator, ``calls`` the last part of the name of a call, with the place and
    the name of the parameter that takes the job. ``needs`` are modules of which an application that uses this queue imports one.
    """

    queue: str
    needs: tuple[str, ...]
    decorators: tuple[str, ...] = ()
    calls: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    """Classes whose subclasses are jobs, by their ``run``."""


RQ = JobSource(
    "rq",
    ("rq", "django_rq", "flask_rq2", "flask_rq", "rq_scheduler", "arq_rq"),
    (r"(rq|rq\.decorators|django_rq|django_rq\.decorators|flask_rq)\.job", r"flask_rq2\.(\w+\.)*RQ\(\)\.job"),
    {
        "enqueue": (0, "f"),
        "enqueue_call": (0, "func"),
        "enqueue_at": (1, "f"),
        "enqueue_in": (1, "func"),
        "enqueue_many_at": (1, "f"),
        "prepare_data": (0, "func"),
        "create_job": (0, "func"),
        "Job.create": (0, "func"),
        "scheduler.schedule": (1, "func"),
        "scheduler.cron": (1, "func"),
        "cron.register": (0, "func"),
    },
)
"""RQ itself, and what stands on it."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A line that hands a job to a queue, or makes a function one."""

    file: str
    line: int
    how: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} ({self.how})"


@dataclass(slots=True)
class Job:
    """A function that a queue runs. ``name`` is as in a certificate: module and qualified name."""

    name: str
    queue: str
    file: str = ""
    """Empty: it is not in the files that were read."""
    line: int = 0
    seen: list[Enqueued] = field(default_factory=list)
    module: Module | None = None
    function: Function | None = None


def job_sources() -> list[JobSource]:
    """RQ, and those of installed adapters (entry points of the group ``idemfuzz.inventory``)."""
    return [RQ, *(point.load() for point in entry_points(group=_ENTRY_POINTS))]


def found_jobs(sources: Sources, kinds: Sequence[JobSource], root: Path) -> tuple[list[Job], list[Enqueued]]:
    """All jobs, and the lines that hand over what cannot be told from the text."""
    jobs: dict[str, Job] = {}
    unknown: list[Enqueued] = []
    for kind in kinds:
        if not any(_imports(module, kind.needs) for module in sources.modules.values()):
            continue
        finder = _Finder(sources, kind, root)
        for name, seen in finder.found():
            job = jobs.setdefault(name, _job(sources, name, kind.queue, root))
            if seen not in job.seen:
                job.seen.append(seen)
        unknown += finder.unknown
    return sorted(jobs.values(), key=lambda job: (not job.file, job.name)), unknown


def _job(sources: Sources, name: str, queue: str, root: Path) -> Job:
    found = sources.function(name)
    if found is None:
        return Job(name, queue)
    module, _, function = found
    return Job(name, queue, shown_path(module.path, root), function.lineno, module=module, function=function)


class _Finder:
    """One kind of queue in one application."""

    def __init__(self, sources: Sources, kind: JobSource, root: Path) -> None:
        self.unknown: list[Enqueued] = []
        self._sources = sources
        self._kind = kind
        self._root = root
        self._decorators = [re.compile(pattern) for pattern in kind.decorators]
        self._tails: set[str] = set()
        # Functions of the application that pass a parameter on to the queue: dotted name -> the parameter.
        self._passing: dict[str, tuple[int, str]] = {}

    def found(self) -> Iterator[tuple[str, Enqueued]]:
        for module in self._modules():
            yield from self._decorated(module)
        handed: dict[tuple[Path, int, int], tuple[str, Enqueued]] = {}
        # What passes a job on may itself be called by what passes one on.
        for _ in range(_ROUNDS_MAX):
            known = len(self._passing)
            self.unknown.clear()
            self._tails = self._names_of_calls()
            for module in self._modules():
                for place, name, seen in self._handed(module):
                    handed[module.path, *place] = name, seen
            if len(self._passing) == known:
                break
        yield from handed.values()

    def _names_of_calls(self) -> set[str]:
        """The last words of all calls that may hand over a job, with the names that imports give them."""
        tails = {name.rpartition(".")[2] for name in (*self._kind.calls, *self._passing)}
        for module in self._sources.modules.values():
            tails |= {name for name, meant in module.names.items() if meant.rpartition(".")[2] in tails}
        return tails

    def _modules(self) -> Iterable[Module]:
        return (module for module in self._sources.modules.values() if not module.is_test)

    def _decorated(self, module: Module) -> Iterator[tuple[str, Enqueued]]:
        for name, function in module.functions.items():
            for decorator in function.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                meant = self._sources.resolve(module, target, module.parents.get(function))
                if any(pattern.fullmatch(meant) for pattern in self._decorators):
                    how = f"@{ast.unparse(target)}"
                    yield f"{module.name}.{name}", self._at(module, decorator, how)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and f"{node.name}.run" in module.functions:
                bases = [self._sources.resolve(module, base) for base in node.bases]
                if any(re.fullmatch(pattern, base) for pattern in self._kind.bases for base in bases):
                    yield f"{module.name}.{node.name}.run", self._at(module, node, f"class {node.name}")

    def _handed(self, module: Module) -> Iterator[tuple[tuple[int, int], str, Enqueued]]:
        for node in module.calls:
            called = node.func
            tail = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if tail not in self._tails:
                continue
            scope = self._sources.scope_of(module, node)
            parameter = self._parameter(module, node, scope)
            if parameter is None:
                continue
            place, keyword = parameter
            given: ast.expr | None = next((k.value for k in node.keywords if k.arg == keyword), None)
            if (
                given is None
                and len(node.args) > place
                and not any(isinstance(a, ast.Starred) for a in node.args[: place + 1])
            ):
                given = node.args[place]
            seen = self._at(module, node, f"{ast.unparse(node.func)[-40:]}(...)")
            if given is None:
                if self._is_sure(node):
                    self.unknown.append(seen)
                continue
            for one in _alternatives(given):
                yield from self._meant(module, node, one, scope, seen)

    def _meant(
        self, module: Module, node: ast.Call, given: ast.expr, scope: Function | None, seen: Enqueued
    ) -> Iterator[tuple[tuple[int, int], str, Enqueued]]:
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            if _PATH.fullmatch(given.value):
                yield (node.lineno, given.col_offset), self._sources.follow(given.value), seen
            return
        if isinstance(given, ast.Name) and scope is not None:
            passed = self._passed_on(module, given.id, scope)
            if passed is not None:
                self._passing.setdefault(*passed)
                return
            values = _assigned(scope, given.id)
            if values:
                for value in values:
                    for one in _alternatives(value):
                        if not (isinstance(one, ast.Name) and one.id == given.id):
                            yield from self._meant(module, node, one, scope, seen)
                return
        name = self._sources.resolve(module, given, scope)
        if name and self._sources.function(name) is not None:
            yield (node.lineno, given.col_offset), self._sources.follow(name), seen
        elif name and "." in name and "()" not in name and self._is_imported(name):
            # Another distribution's function.
            yield (node.lineno, given.col_offset), name, seen
        elif self._is_sure(node):
            self.unknown.append(seen)

    def _is_imported(self, name: str) -> bool:
        """Whether a name leads out of what was read (rather than to something there that is no function)."""
        head = name.partition(".")[0]
        return not any(module.partition(".")[0] == head for module in self._sources.modules)

    def _parameter(self, module: Module, node: ast.Call, scope: Function | None) -> tuple[int, str] | None:
        called = node.func
        if isinstance(called, ast.Name | ast.Attribute):
            meant = self._sources.resolve(module, called, scope)
            if meant in self._passing:
                return self._passing[meant]
            if self._sources.function(meant) is not None:
                # The application's own function of such a name: it is one that passes a job on, or nothing of the queue's.
                return None
        text = ast.unparse(called)
        for name, parameter in self._kind.calls.items():
            if text == name or text.endswith(f".{name}"):
                return parameter
        return None

    def _passed_on(self, module: Module, name: str, scope: Function) -> tuple[str, tuple[int, str]] | None:
        """Where ``name`` is a parameter of the function around: that function, and which of its parameters it is."""
        arguments = [a.arg for a in (*scope.args.posonlyargs, *scope.args.args)]
        qualified = next((q for q, f in module.functions.items() if f is scope), None)
        if qualified is None or "<locals>" in qualified:
            return None
        if name in [a.arg for a in scope.args.kwonlyargs]:
            return f"{module.name}.{qualified}", (999, name)
        if name not in arguments:
            return None
        is_method = arguments[:1] in (["self"], ["cls"])
        return f"{module.name}.{qualified}", (arguments.index(name) - is_method, name)

    @staticmethod
    def _is_sure(node: ast.Call) -> bool:
        """Whether nothing else than a queue has such a method."""
        text = ast.unparse(node.func)
        return "queue" in text.lower() or text.endswith(
            (".enqueue_call", ".enqueue_in", ".enqueue_at", "Job.create")
        )

    def _at(self, module: Module, node: ast.expr | ast.stmt, how: str) -> Enqueued:
        return Enqueued(shown_path(module.path, self._root), node.lineno, how)


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.IfExp):
        yield from _alternatives(node.body)
        yield from _alternatives(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _alternatives(value)
    else:
        yield node


def _assigned(scope: Function, name: str) -> list[ast.expr]:
    """What a local variable may be."""
    found: list[ast.expr] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            found.append(node.value)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name) and node.target.id == name:
            found += node.iter.elts if isinstance(node.iter, ast.List | ast.Tuple) else []
    return found


def _imports(module: Module, needs: Sequence[str]) -> bool:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import) and any(
            alias.name.partition(".")[0] in needs for alias in node.names
        ):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in needs:
            return True
    return False
