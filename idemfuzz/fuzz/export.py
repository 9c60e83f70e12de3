"""A regression test for a saved finding, as a person would write it: the marker, the plan, and the values that were found."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import importlib
import keyword
import re
import textwrap
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from idemfuzz.abc import Options, Unusable
from idemfuzz.adapters import load_adapters
from idemfuzz.api import Registration, registrations
from idemfuzz.corpus import Entry, mechanism_of
from idemfuzz.model import Example

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
_WIDTH = 96
_LINE = 100


@dataclass(frozen=True, slots=True)
class Exported:
    """The text of a test, and the file that it belongs at the end of, if it is not one of its own."""

    text: str
    beside: Path | None = None


def exported(entry: Entry, root: Path) -> Exported:
    """Write the test.

    Raises:
        Unusable: the example of the finding was not kept, or its target is not there any more.
    """
    if entry.drawn and entry.example is None:
        values = ", ".join(f"{name}={text}" for name, text in entry.example_text.items())
        raise Unusable(
            f"the finding {entry.id} was found with {values}, which has no JSON form ({entry.unsaved}): write the test with "
            "such values by hand"
        )
    return _of_a_test(entry, root) if entry.is_test else Exported(_of_a_job(entry))


# -- a registered job --------------------------------------------------------------------------------------


def _of_a_job(entry: Entry) -> str:
    module_name, _, job_name = entry.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise Unusable(
            f"the module {module_name!r} of the finding {entry.id} cannot be imported: {error}"
        ) from error
    registration = next((r for r in registrations if r.target == entry.target), None)
    if registration is None:
        raise Unusable(
            f"{entry.target!r} is not registered any more, so nothing says which stores it works on"
        )
    names = _Names(module)
    stores = _stores(registration, names)
    example = entry.example or _fixed(registration)
    setup = None if registration.setup is None else names.of(registration.setup)
    if stores is None or job_name not in names.known or (registration.setup is not None and setup is None):
        return _by_registration(entry, example)
    used = {job_name.partition(".")[0], *stores.values()} | ({setup} if setup else set())
    literals = _Literals()
    call = _call(job_name, [*map(literals, example.args), *_keywords(example.kwargs, literals)])
    body = [
        *(
            [_call(setup, [literals(example.state)] if registration.state is not None else [])]
            if setup
            else []
        ),
        call,
    ]
    told = ", ".join(f'"{name}": {value}' for name, value in stores.items())
    lines = [
        *literals.imports,
        *([""] if literals.imports else []),
        "import pytest",
        f"from {module_name} import {', '.join(sorted(used))}",
        "",
        "",
        _call("@pytest.mark.idempotent", [f"job={job_name}", f"stores={{{told}}}", f'plan="{entry.plan}"']),
        f"def {_name(job_name, entry)}():",
        *_docstring(entry),
        *textwrap.indent("\n".join(body), "    ").splitlines(),
    ]
    return "\n".join(lines) + "\n"


def _fixed(registration: Registration) -> Example:
    return Example(registration.arguments(), registration.kwargs, registration.state)


def _by_registration(entry: Entry, example: Example) -> str:
    """Where the module has no names for the stores or the setup: through its registration."""
    module_name, _, job_name = entry.target.partition(":")
    literals = _Literals()
    parts = []
    if example.args:
        parts.append(f"args=({', '.join(map(literals, example.args))},)")
    if example.kwargs:
        parts.append(f"kwargs={literals(dict(example.kwargs))}")
    if example.state is not None:
        parts.append(f"state={literals(example.state)}")
    lines = [
        *literals.imports,
        *([""] if literals.imports else []),
        f"import {module_name}  # noqa: F401  (it registers the job)",
        "from idemfuzz.api import make_options, registrations",
        "from idemfuzz.model import Example",
        "",
        "",
        f"def {_name(job_name, entry)}():",
        *_docstring(entry),
        f'    job = next(r for r in registrations if r.target == "{entry.target}")',
        *textwrap.indent(_call("example = Example", parts), "    ").splitlines(),
        f'    report = job.search(make_options({{"plan": "{entry.plan}"}}), example=example)',
        "    assert report.holds, report.findings",
    ]
    return "\n".join(lines) + "\n"


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
        if registration.stores is None and not _is_store(value):
            continue
        known = names.of(value)
        if known is None:
            return None
        found[name] = known
    return found or None


def _is_store(value: object) -> bool:
    for adapter in load_adapters():
        adopt = getattr(adapter, "adopt", None)
        if adopt is not None:
            try:
                if adopt("?", value, Options()) is not None:
                    return True
            except Unusable:
                return True
    return False


# -- a marked test -----------------------------------------------------------------------------------------


def _of_a_test(entry: Entry, root: Path) -> Exported:
    """A copy beside the test, with the values in place of what was drawn, and the plan in place of the search."""
    path_text, _, rest = entry.target.partition("::")
    path = root / path_text
    *owners, name = rest.partition("[")[0].split("::")
    try:
        source = path.read_text(encoding="utf-8")
        function = _found(ast.parse(source), owners, name)
    except (OSError, SyntaxError) as error:
        raise Unusable(f"the test of the finding {entry.id} cannot be read: {error}") from error
    if function is None:
        raise Unusable(f"there is no test {rest!r} in {path_text} any more")
    lines = source.splitlines()
    kept = [d for d in function.decorator_list if _decorator_name(d) not in _DRAWING]
    decorators = ["@" + ast.unparse(decorator) for decorator in kept]
    literals = _Literals()
    example = dict(entry.example.kwargs) if entry.example is not None else {}
    signature = ast.arguments(
        posonlyargs=[arg for arg in function.args.posonlyargs if arg.arg not in example],
        args=[arg for arg in function.args.args if arg.arg not in example],
        vararg=None,
        kwonlyargs=[arg for arg in function.args.kwonlyargs if arg.arg not in example],
        kw_defaults=[],
        kwarg=None,
        defaults=[],
    )
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    first = body[0].lineno - 1 if body else 0
    while lines[first - 1].lstrip().startswith("#"):
        # A comment that leads the body in.
        first -= 1
    text = textwrap.dedent("\n".join(lines[first : function.end_lineno])) if body else "pass"
    word = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    made = [
        _call("@pytest.mark.idempotent", [f'plan="{entry.plan}"']),
        *decorators,
        f"{word} {_name(name.removeprefix('test_'), entry)}({ast.unparse(signature)}):",
        *_docstring(entry),
        *(f"    {key} = {literals(value)}" for key, value in example.items()),
        textwrap.indent(text, "    "),
    ]
    imports = [line for line in literals.imports if line not in lines]
    imports += [] if "import pytest" in lines else ["import pytest"]
    head = [f"# This belongs into the class {'.'.join(owners)}."] if owners else []
    return Exported("\n".join([*imports, *head, *made]) + "\n", None if owners else path)


def _found(
    tree: ast.Module, owners: Iterable[str], name: str
) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    body: list[ast.stmt] = tree.body
    for owner in owners:
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner), [])
    return next(
        (n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name), None
    )


def _decorator_name(decorator: ast.expr) -> str:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (
        target.attr
        if isinstance(target, ast.Attribute)
        else target.id
        if isinstance(target, ast.Name)
        else ""
    )


# -- texts -------------------------------------------------------------------------------------------------


class _Literals:
    """Values as Python text, with the imports that they need."""

    def __init__(self) -> None:
        self._modules: set[str] = set()

    @property
    def imports(self) -> list[str]:
        return [f"import {module}" for module in sorted(self._modules)]

    def __call__(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return f"{self._class(type(value))}.{value.name}"
        if type(value) is dict:
            return "{" + ", ".join(f"{self(key)}: {self(inner)}" for key, inner in value.items()) + "}"
        if type(value) is list:
            return f"[{', '.join(map(self, value))}]"
        if type(value) is tuple:
            return f"({', '.join(map(self, value))}{',' if len(value) == 1 else ''})"
        if type(value) in (set, frozenset) and value:
            inner = f"{{{', '.join(map(self, sorted(value, key=repr)))}}}"
            return inner if type(value) is set else f"frozenset({inner})"
        if isinstance(value, float) and repr(value) in ("nan", "inf", "-inf"):
            return f'float("{value!r}")'
        if isinstance(value, datetime.date | datetime.time | datetime.timedelta | datetime.timezone):
            self._modules.add("datetime")
            return repr(value)
        if isinstance(value, decimal.Decimal | uuid.UUID):
            kind = type(value)
            self._modules.add(kind.__module__)
            return f'{kind.__module__}.{kind.__name__}("{value}")'
        fields: Mapping[str, Any] | None = getattr(type(value), "__dataclass_fields__", None)
        if fields is not None:
            known = {name: getattr(value, name) for name, field in fields.items() if field.init}
            return _call(self._class(type(value)), _keywords(known, self))
        if hasattr(value, "_asdict"):
            return _call(self._class(type(value)), _keywords(value._asdict(), self))
        text = repr(value)
        # A person's quotes, where that needs no escapes.
        if isinstance(value, str) and '"' not in text and "\\" not in text and text[0] == "'":
            return f'"{text[1:-1]}"'
        return text

    def _class(self, kind: type) -> str:
        self._modules.add(kind.__module__)
        return f"{kind.__module__}.{kind.__qualname__}"


def _keywords(values: Mapping[str, Any], literals: _Literals) -> list[str]:
    plain = all(name.isidentifier() and not keyword.iskeyword(name) for name in values)
    if not plain:
        return [f"**{literals(dict(values))}"]
    return [f"{name}={literals(value)}" for name, value in values.items()]


def _call(function: str | None, arguments: Iterable[str]) -> str:
    parts = [argument for argument in arguments if argument]
    line = f"{function}({', '.join(parts)})"
    if len(line) <= _LINE - 4:
        return line
    return "\n".join([f"{function}(", *(f"    {part}," for part in parts), ")"])


def _name(job: str, entry: Entry) -> str:
    what = re.sub(r"\W+", "_", job.rpartition(".")[2])
    return f"test_{what}_{_HAPPENINGS.get(mechanism_of(entry.plan), 'redelivered')}"


def _docstring(entry: Entry) -> list[str]:
    parts = [f"{entry.code}: {_clean(entry.summary).rstrip('.')}."]
    if entry.cause:
        parts.append(f"Happens when {_clean(entry.cause).rstrip('.')}.")
    lines: list[str] = []
    for part in parts:
        lines += ["", *textwrap.wrap(part, _WIDTH)] if lines else textwrap.wrap(part, _WIDTH)
    if len(lines) == 1:
        return [f'    """{lines[0]}"""']
    return [f'    """{lines[0]}', *(f"    {line}".rstrip() for line in lines[1:]), '    """']


def _clean(text: str) -> str:
    """For a docstring: one line, and nothing that ends it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"""', "'''").replace('"', "'")
