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
_OWN = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
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
        self._wrapping: dict[str, bool] = {}

    def found(self) -> Iterator[tuple[str, Enqueued]]:
        for module in self._modules():
            yield from self._decorated(module)
        handed: dict[tuple[Path, int, int, str], tuple[str, Enqueued]] = {}
        # What passes a job on may itself be called by what passes one on.
        for _ in range(_ROUNDS_MAX):
            known = len(self._passing)
            self.unknown.clear()
            self._tails = self._names_of_calls()
            for module in self._modules():
                for place, name, seen in self._handed(module):
                    handed[module.path, *place, name] = name, seen
            if len(self._passing) == known:
                break
        yield from handed.values()

    def _names_of_calls(self) -> set[str]:
        """The last words of all calls that may hand over a job, with the names that imports give them."""
        tails = {name.rpartition(".")[2] for name in (*self._kind.calls, *self._passing)}
        for module in self._sources.modules.values():
            tails |= {
                name.rpartition(".")[2]
                for name, meant in module.names.items()
                if meant.rpartition(".")[2] in tails
            }
            for node in ast.walk(module.tree):
                # ``send = queue.enqueue``, and ``partial(queue.enqueue, ...)``
                if isinstance(node, ast.Assign) and any(
                    isinstance(part, ast.Attribute) and part.attr in tails for part in _aliased(node.value)
                ):
                    tails |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return tails

    def _modules(self) -> Iterable[Module]:
        return (module for module in self._sources.modules.values() if not module.is_test)

    def _decorated(self, module: Module) -> Iterator[tuple[str, Enqueued]]:
        for name, function in module.functions.items():
            for decorator in function.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                meant = self._sources.resolve(module, target, module.parents.get(function))
                if self._makes_jobs(meant) or self._wraps(meant):
                    how = f"@{ast.unparse(target)}"
                    yield f"{module.name}.{name}", self._at(module, decorator, how)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and f"{node.name}.run" in module.functions:
                bases = [self._sources.resolve(module, base) for base in node.bases]
                if any(re.fullmatch(pattern, base) for pattern in self._kind.bases for base in bases):
                    yield f"{module.name}.{node.name}.run", self._at(module, node, f"class {node.name}")

    def _makes_jobs(self, meant: str) -> bool:
        # ``low = job("low")`` is a decorator, too.
        return any(pattern.fullmatch(meant.removesuffix("()")) for pattern in self._decorators)

    def _wraps(self, meant: str) -> bool:
        """Whether it is a decorator of the application's own that applies the queue's."""
        if meant not in self._wrapping:
            found = self._sources.function(meant)
            self._wrapping[meant] = (
                found is not None
                and not found[0].is_test
                and any(
                    self._makes_jobs(self._sources.resolve(found[0], node.func, found[2]))
                    for node in ast.walk(found[2])
                    if isinstance(node, ast.Call)
                )
            )
        return self._wrapping[meant]

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
            if given is None and node.args and scope is not None:
                self._pass_all_on(module, node, place, keyword, scope)
            seen = self._at(module, node, f"{ast.unparse(node.func)[-40:]}(...)")
            if given is None:
                if self._is_sure(node) and not any(isinstance(a, ast.Starred) for a in node.args):
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
        if isinstance(given, ast.Name):
            passed = self._passed_on(module, given.id, scope) if scope is not None else None
            if passed is not None:
                self._passing.setdefault(*passed)
                return
            values = _assigned(scope if scope is not None else module.tree, given.id)
            if not values and given.id not in module.functions:
                values = module.values.get(given.id, [])
            if values:
                for value in values:
                    for one in _alternatives(value):
                        if not (isinstance(one, ast.Name) and one.id == given.id):
                            yield from self._meant(module, node, one, scope, seen)
                return
        several = self._table(module, given) or self._wrapped(module, given, scope)
        if several:
            for one in several:
                yield from self._meant(module, node, one, scope, seen)
            return
        name = self._sources.resolve(module, given, scope)
        if name and self._sources.function(name) is not None:
            for one_name in self._overridden(given, name):
                yield (node.lineno, given.col_offset), one_name, seen
        elif name and "." in name and "()" not in name and self._is_imported(name):
            # Another distribution's function.
            yield (node.lineno, given.col_offset), name, seen
        elif self._is_sure(node):
            self.unknown.append(seen)

    @staticmethod
    def _table(module: Module, given: ast.expr) -> list[ast.expr]:
        """The values of a global dictionary or list that one is taken from."""
        taken = given.value if isinstance(given, ast.Subscript) else None
        if isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr == "get":
            taken = given.func.value
        values = module.values.get(taken.id, []) if isinstance(taken, ast.Name) else []
        found: list[ast.expr] = []
        for value in values:
            if isinstance(value, ast.Dict):
                found += value.values
            elif isinstance(value, ast.List | ast.Tuple):
                found += value.elts
        return found

    def _wrapped(self, module: Module, given: ast.expr, scope: Function | None) -> list[ast.expr]:
        """What a call of the application's own function is given that is a function: ``logged(send)``."""
        if not isinstance(given, ast.Call) or not isinstance(given.func, ast.Name | ast.Attribute):
            return []
        called = self._sources.function(self._sources.resolve(module, given.func, scope))
        if called is None or called[1].endswith("__call__"):
            return []
        functions = ((a, self._sources.resolve(module, a, scope)) for a in given.args)
        return [a for a, name in functions if name and self._sources.function(name) is not None]

    def _overridden(self, given: ast.expr, name: str) -> list[str]:
        """A method as it is named; of ``self``, that of each class below that has one of its own."""
        found = self._sources.function(name)
        assert found is not None
        module, qualified, function = found
        owner, _, method = qualified.rpartition(".")
        inherited = f"{module.name}.{qualified}"
        named = self._sources.follow(name).replace("()", "")
        if not owner or not (isinstance(given, ast.Attribute) and isinstance(given.value, ast.Name)):
            return [inherited if owner else named]
        if given.value.id not in ("self", "cls"):
            return [inherited]
        below = [
            f"{place.name}.{one}.{method}"
            for place, one in self._sources.subclasses(f"{module.name}.{owner}")
            if f"{one}.{method}" in place.functions and not place.is_test
        ]
        return [*([] if below and _is_abstract(function) else [inherited]), *below]

    def _pass_all_on(self, module: Module, node: ast.Call, place: int, keyword: str, scope: Function) -> None:
        """``enqueue(*args)``: the function around takes the job at the place that is left."""
        variable = scope.args.vararg
        for number, argument in enumerate(node.args[: place + 1]):
            if (
                isinstance(argument, ast.Starred)
                and isinstance(argument.value, ast.Name)
                and variable is not None
                and argument.value.id == variable.arg
            ):
                qualified = next((q for q, f in module.functions.items() if f is scope), None)
                before = [a.arg for a in (*scope.args.posonlyargs, *scope.args.args)]
                if qualified is not None:
                    is_method = before[:1] in (["self"], ["cls"])
                    at = len(before) - is_method + place - number
                    self._passing.setdefault(f"{module.name}.{qualified}", (at, keyword))

    def _is_imported(self, name: str) -> bool:
        """Whether a name leads out of what was read (rather than to something there that is no function)."""
        head = name.partition(".")[0]
        return not any(module.partition(".")[0] == head for module in self._sources.modules)

    def _parameter(self, module: Module, node: ast.Call, scope: Function | None) -> tuple[int, str] | None:
        called = node.func
        if isinstance(called, ast.Name | ast.Attribute):
            meant = self._sources.resolve(module, called, scope)
            found = self._sources.function(meant)
            passing = {meant, *([f"{found[0].name}.{found[1]}"] if found is not None else [])}
            if known := next((self._passing[name] for name in passing if name in self._passing), None):
                return known
            if self._sources.function(meant) is not None:
                # The application's own function of such a name: it is one that passes a job on, or nothing of the queue's.
                return None
        text = ast.unparse(called)
        meant = self._sources.resolve(module, called, scope)
        alias = self._alias(module, called, scope)
        for name, parameter in self._kind.calls.items():
            if text == name or text.endswith(f".{name}"):
                return parameter
            # Under another name, it must lead to the queue.
            if f".{meant}".endswith(f".{name}") and meant.partition(".")[0] in self._kind.needs:
                return parameter
            if f".{alias}".endswith(f".{name}"):
                return parameter
        return None

    def _alias(self, module: Module, called: ast.expr, scope: Function | None) -> str:
        """What a local variable stands for, as it is written: ``send = q.enqueue``."""
        if not isinstance(called, ast.Name):
            return ""
        values = _assigned(scope if scope is not None else module.tree, called.id)
        return (
            ast.unparse(next(iter(_aliased(values[0])))) if len(values) == 1 and _aliased(values[0]) else ""
        )

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


def _aliased(value: ast.expr) -> list[ast.expr]:
    """What is called under another name: a bound method, or one within `partial`."""
    if isinstance(value, ast.Attribute):
        return [value]
    is_partial = isinstance(value, ast.Call) and ast.unparse(value.func).endswith("partial")
    return [a for a in value.args[:1] if isinstance(a, ast.Attribute)] if is_partial else []  # type: ignore[attr-defined]


def _is_abstract(function: Function) -> bool:
    return any(
        isinstance(node, ast.Raise) and node.exc is not None and "NotImplemented" in ast.unparse(node.exc)
        for node in function.body
    ) or any("abstract" in ast.unparse(decorator) for decorator in function.decorator_list)


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.IfExp):
        yield from _alternatives(node.body)
        yield from _alternatives(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from _alternatives(value)
    else:
        yield node


def _assigned(scope: Function | ast.Module, name: str) -> list[ast.expr]:
    """What a local variable may be."""
    found: list[ast.expr] = []
    # What functions call so is theirs.
    nodes = [node for node in scope.body if not isinstance(scope, ast.Module) or not isinstance(node, _OWN)]
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in node.targets
        ):
            found.append(node.value)
        elif (
            isinstance(node, ast.For | ast.comprehension)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
        ):
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
