"""A regression test for a saved finding, as a person would write it: the marker, the plan, and the values that were found."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from idemfuzz import corpus
from idemfuzz.abc import Unusable
from idemfuzz.adapters import is_store
from idemfuzz.api import Registration, registrations
from idemfuzz.corpus import Entry, mechanism_of
from idemfuzz.fuzz.source_text import (
    LINE,
    Imports,
    Piece,
    call,
    import_lines,
    keywords,
    literal,
    rendered,
    with_imports,
)
from idemfuzz.model import Example
from idemfuzz.reporting.redaction import HIDDEN

__all__ = ["Exported", "exported"]

_HAPPENINGS = {
    "duplicate": "delivered_twice",
    "late": "delivered_again_late",
    "overlap": "two_deliveries_at_once",
    "stall": "stalled_delivery_goes_on",
    "kill": "worker_killed",
    "timeout": "time_limit_strikes",
    "shutdown": "worker_shut_down",
    "refused": "connection_refused",
    "lost": "reply_lost",
    "resent": "command_sent_again",
    "failover": "store_falls_back",
}
_DRAWING = frozenset({"given", "settings", "example", "seed", "reproduce_failure"})
_MARKER = "@pytest.mark.idempotent"


@dataclass(frozen=True, slots=True)
class Exported:
    """A test: its function, the imports that it needs, and the file and class that it belongs into, if it must stand there."""

    name: str
    code: str
    function: str
    imports: Imports
    root: Path
    beside: Path | None = None
    owners: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As a file of its own, or as what is to be added to the file that it belongs into."""
        head = "\n".join(import_lines(self.imports.statements(), self.root))
        gap = "\n\n\n" if head else ""
        return f"{head}{gap}{self.function}\n"

    def added_to(self, source: str) -> str:
        """The text of a file with this test in it.

        Raises:
            Unusable: it has this test already, or lacks the class; nobody knows where to put it.
        """
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            raise Unusable(f"the file is no Python: {error}") from error
        if self.function in source:
            raise Unusable("the file has this test already")
        place = _class_in(tree, self.owners)
        taken = {node.name for node in place.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        function = self.function
        if self.name in taken:
            # Another finding of the same kind: a second function of one name would hide the first.
            name = f"{self.name}_{self.code.lower()}"
            if name in taken:
                raise Unusable(f"the file has tests {self.name} and {name} already")
            function = function.replace(f"def {self.name}(", f"def {name}(", 1)
        lines = source.rstrip().splitlines()
        if isinstance(place, ast.ClassDef):
            lines[place.end_lineno : place.end_lineno] = ["", *function.splitlines()]
        else:
            lines += ["", "", *function.splitlines()]
        return with_imports("\n".join(lines), self.imports, self.root)


def exported(entry: Entry, root: Path) -> Exported:
    """Write the test.

    Raises:
        Unusable: the example of the finding was not kept, or its target is not there any more.
    """
    if not entry.is_test:
        module = _imported(entry)
    entry = _with_example(entry, root)
    if entry.drawn and entry.example is None:
        values = ", ".join(f"{name}={text}" for name, text in entry.example_text.items())
        raise Unusable(
            f"the finding {entry.id} was found with {values}, which cannot be made again ({entry.unsaved}): write the test with "
            "such values by hand"
        )
    return _of_a_test(entry, root) if entry.is_test else _of_a_job(entry, module, root)


def _imported(entry: Entry) -> ModuleType:
    module_name = entry.target.partition(":")[0]
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        # Whatever the module's own code raises.
        raise Unusable(
            f"the module {module_name!r} of the finding {entry.id} cannot be imported: {error!r}"
        ) from error


def _with_example(entry: Entry, root: Path) -> Entry:
    """With its example, whose classes may be of modules that nobody has loaded yet."""
    if entry.example is not None or entry.path is None or not entry.unsaved:
        return entry
    if entry.is_test:
        sys.path.insert(0, str((root / entry.target.partition("::")[0]).parent))
    with suppress(OSError, ValueError):
        data = json.loads(entry.path.read_text(encoding="utf-8"))
        for name in set(_modules_in(data.get("example"))):
            with suppress(ImportError):
                importlib.import_module(name)
        return replace(corpus.from_json(data, entry.path), path=entry.path)
    return entry


def _modules_in(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, inner in data.items():
            if (
                key in ("$object", "$enum")
                and isinstance(inner, list)
                and inner
                and isinstance(inner[0], str)
            ):
                yield inner[0].partition(":")[0]
            yield from _modules_in(inner)
    elif isinstance(data, list):
        for inner in data:
            yield from _modules_in(inner)


# -- a registered job --------------------------------------------------------------------------------------


def _of_a_job(entry: Entry, module: ModuleType, root: Path) -> Exported:
    module_name, _, job_name = entry.target.partition(":")
    registration = next((r for r in registrations if r.target == entry.target), None)
    if registration is None:
        raise Unusable(
            f"{entry.target!r} is not registered any more, so nothing says which stores it works on"
        )
    names = _Names(module)
    stores = _stores(registration, names)
    example = entry.example or Example(registration.arguments(), registration.kwargs, registration.state)
    setup = None if registration.setup is None else names.of(registration.setup)
    waits = [inspect.iscoroutinefunction(function) for function in (registration.job, registration.setup)]
    # Without a plugin that runs it, an async test would be refused.
    runs = not any(waits) or importlib.util.find_spec("pytest_asyncio") is not None
    named = (
        stores is not None and job_name in names.known and (registration.setup is None or setup is not None)
    )
    if not runs or not named or stores is None:
        return _by_registration(entry, example, root)
    imports = Imports()
    imports.module("pytest")
    for name in (job_name, *stores.values(), *([setup] if setup else [])):
        imports.name(module_name, name)
    options = {**registration.options, "plan": str(entry.plan)}
    marker = call(
        _MARKER,
        [
            f"job={job_name}",
            _pieces_of_stores(stores),
            *keywords(options, imports),
        ],
    )
    given = [literal(value, imports) for value in example.args] + keywords(example.kwargs, imports)
    calls: list[tuple[bool, Piece]] = [(waits[0], call(job_name, given))]
    if setup is not None:
        state = [literal(example.state, imports)] if registration.state is not None else []
        calls.insert(0, (waits[1], call(setup, state)))
    name = _name(job_name, entry)
    function = [
        *(["@pytest.mark.asyncio"] if any(waits) else []),
        rendered(marker),
        f"{'async def' if any(waits) else 'def'} {name}():",
        *_docstring(entry),
    ]
    body = [
        f"    {'await ' if wait else ''}{rendered(piece, '    ', 'await ' if wait else '')}"
        for wait, piece in calls
    ]
    return Exported(name, entry.code, "\n".join([*function, *_hidden(entry), *body]), imports, root)


def _pieces_of_stores(stores: dict[str, str]) -> Piece:
    told = ", ".join(f'"{name}": {value}' for name, value in stores.items())
    return f"stores={{{told}}}"


def _by_registration(entry: Entry, example: Example, root: Path) -> Exported:
    """Where the module has no names for the stores or the setup: through its registration."""
    module_name, _, job_name = entry.target.partition(":")
    imports = Imports()
    imports.name("idemfuzz.api", "make_options")
    imports.name("idemfuzz.api", "registrations")
    imports.name("idemfuzz.model", "Example")
    parts = {
        name: value
        for name, value in (("args", tuple(example.args)), ("kwargs", dict(example.kwargs)))
        if value
    }
    if example.state is not None:
        parts["state"] = example.state
    name = _name(job_name, entry)
    made = rendered(call("example = Example", keywords(parts, imports)), "    ")
    lines = [
        f"def {name}():",
        *_docstring(entry),
        *_hidden(entry),
        f'    target = "{entry.target}"',
        "    job = next(job for job in registrations if job.target == target)",
        f"    {made}",
        f'    options = make_options({{**job.options, "plan": "{entry.plan}"}})',
        "    report = job.search(options, example=example)",
        "    assert report.holds, report.findings",
    ]
    imports.module(module_name, "  # noqa: F401  (it registers the job)")
    return Exported(name, entry.code, "\n".join(lines), imports, root)


class _Names:
    """What a module calls its objects."""

    def __init__(self, module: ModuleType) -> None:
        self.known = {name: value for name, value in vars(module).items() if not name.startswith("__")}

    def of(self, value: object) -> str | None:
        return next((name for name, known in self.known.items() if known is value), None)


def _stores(registration: Registration, names: _Names) -> dict[str, str] | None:
    """Store name -> the module's name for it; None where it has none."""
    if callable(registration.stores):
        return None
    found: dict[str, str] = {}
    for name, value in registration.values().items():
        if registration.stores is None and not is_store(value):
            continue
        known = names.of(value)
        if known is None:
            return None
        found[name] = known
    return found or None


# -- a marked test -----------------------------------------------------------------------------------------


def _of_a_test(entry: Entry, root: Path) -> Exported:
    """A copy beside the test, with the values in place of what was drawn, and the plan in place of the search."""
    path_text, _, rest = entry.target.partition("::")
    path = root / path_text
    *owners, name = rest.partition("[")[0].split("::")
    try:
        source = path.read_text(encoding="utf-8")
        place = _class_in(ast.parse(source), owners)
    except (OSError, SyntaxError, Unusable) as error:
        raise Unusable(f"the test of the finding {entry.id} cannot be read: {error}") from error
    function = next(
        (n for n in place.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name),
        None,
    )
    if function is None:
        raise Unusable(f"there is no test {rest!r} in {path_text} any more")
    indent = " " * function.col_offset
    imports = Imports(home=_module_of(path, root))
    imports.module("pytest")
    example = dict(entry.example.kwargs) if entry.example is not None else {}
    values = [
        f"{indent}    {key} = {rendered(literal(value, imports), indent + '    ', f'{key} = ')}"
        for key, value in example.items()
    ]
    made = _name(name.removeprefix("test_"), entry)
    word = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    lines = [
        *textwrap.indent("\n".join(_decorators(function, source, entry)), indent).splitlines(),
        f"{indent}{word} {made}({ast.unparse(_without(function.args, example))}):",
        *(f"{indent}{line}".rstrip() for line in _docstring(entry, len(indent))),
        *(indent + line for line in _hidden(entry)),
        *values,
        *_body(function, source, indent),
    ]
    return Exported(made, entry.code, "\n".join(lines), imports, root, path, tuple(owners))


def _without(signature: ast.arguments, example: dict[str, Any]) -> ast.arguments:
    return ast.arguments(
        posonlyargs=[arg for arg in signature.posonlyargs if arg.arg not in example],
        args=[arg for arg in signature.args if arg.arg not in example],
        vararg=None,
        kwonlyargs=[arg for arg in signature.kwonlyargs if arg.arg not in example],
        kw_defaults=[],
        kwarg=None,
        defaults=[],
    )


def _decorators(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str, entry: Entry) -> Iterator[str]:
    """As they stand there, but for those that draw; the marker has the plan."""
    plan = f'plan="{entry.plan}"'
    marked = False
    for decorator in function.decorator_list:
        name = _decorator_name(decorator)
        if name in _DRAWING:
            continue
        text = textwrap.dedent(" " * decorator.col_offset + (ast.get_source_segment(source, decorator) or ""))
        if name != "idempotent" or marked:
            yield f"@{text}"
            continue
        marked = True
        given = []
        if isinstance(decorator, ast.Call):
            text = ast.get_source_segment(source, decorator.func) or text
            given = [
                f"{keyword.arg}={ast.get_source_segment(source, keyword.value)}"
                for keyword in decorator.keywords
                if keyword.arg != "plan"
            ]
        yield rendered(call(f"@{text}", [*given, plan]))
    if not marked:
        yield rendered(call(_MARKER, [plan]))


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str, indent: str) -> list[str]:
    """The statements of a function as they stand there, without its docstring."""
    lines = source.splitlines()
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return [f"{indent}    pass"]
    first = body[0].lineno - 1
    if body[0].col_offset != len(lines[first]) - len(lines[first].lstrip()):
        # It begins on the line of its `def`, or of the docstring.
        own = ast.get_source_segment(source, body[0]) or "pass"
        rest = lines[body[0].end_lineno or first + 1 : function.end_lineno]
        return [f"{indent}    {own}", *rest]
    while lines[first - 1].lstrip().startswith("#"):
        # A comment that leads the body in.
        first -= 1
    return lines[first : function.end_lineno]


def _decorator_name(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (
        target.attr
        if isinstance(target, ast.Attribute)
        else target.id
        if isinstance(target, ast.Name)
        else ""
    )


def _module_of(path: Path, root: Path) -> str:
    """The name that pytest imports a test file by."""
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and folder != root.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


# -- files -------------------------------------------------------------------------------------------------


def _class_in(tree: ast.Module, owners: Iterable[str]) -> ast.Module | ast.ClassDef:
    place: ast.Module | ast.ClassDef = tree
    for owner in owners:
        found = next((n for n in place.body if isinstance(n, ast.ClassDef) and n.name == owner), None)
        if found is None:
            raise Unusable(f"there is no class {owner} in it")
        place = found
    return place


# -- texts -------------------------------------------------------------------------------------------------


def _name(job: str, entry: Entry) -> str:
    what = re.sub(r"\W+", "_", job.rpartition(".")[2])
    return f"test_{what}_{_HAPPENINGS.get(mechanism_of(entry.plan), 'redelivered')}"


def _hidden(entry: Entry) -> list[str]:
    """A word on values that were hidden, where there are some."""
    told = f'    # "{HIDDEN}" stands for what was hidden: put in a value that may be seen.'
    return [told] if entry.is_redacted else []


def _docstring(entry: Entry, indented: int = 0) -> list[str]:
    parts = [f"{entry.code}: {_clean(entry.summary).rstrip('.')}."]
    if entry.cause:
        parts.append(f"Happens when {_clean(entry.cause).rstrip('.')}.")
    lines: list[str] = []
    width = LINE - indented - len('    """')
    for part in parts:
        lines += ["", *textwrap.wrap(part, width)] if lines else textwrap.wrap(part, width)
    if len(lines) == 1 and len(lines[0]) <= width - len('"""'):
        return [f'    """{lines[0]}"""']
    return [f'    """{lines[0]}', *(f"    {line}".rstrip() for line in lines[1:]), '    """']


def _clean(text: str) -> str:
    """For a docstring: one line, and nothing that ends it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"""', "'''").replace('"', "'")
