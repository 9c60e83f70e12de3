"""Python text as a person writes it: values, calls and imports, in the form that ruff and Black leave as it is."""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import keyword
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idemfuzz.abc import Unusable

__all__ = [
    "LINE",
    "Group",
    "Imports",
    "Piece",
    "call",
    "import_lines",
    "keywords",
    "literal",
    "rendered",
    "with_imports",
]

LINE = 88
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Group:
    """Pieces between brackets: on one line where they fit, else one on each."""

    head: str
    pieces: Sequence[Piece]
    tail: str
    lone_comma: bool = False
    """Whether a single piece has a comma after it: a tuple of one."""


Piece = str | Group


def rendered(piece: Piece, indent: str = "", after: str = "") -> str:
    """The text of a piece whose first line stands at ``indent``, which is not part of it."""
    flat = _flat(piece)
    if isinstance(piece, str) or not piece.pieces or len(indent + flat + after) <= LINE:
        return flat
    inner = indent + _INDENT
    lines = [f"{inner}{rendered(part, inner, ',')}," for part in piece.pieces]
    return "\n".join([piece.head, *lines, f"{indent}{piece.tail}"])


def _flat(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    comma = "," if piece.lone_comma and len(piece.pieces) == 1 else ""
    return f"{piece.head}{', '.join(map(_flat, piece.pieces))}{comma}{piece.tail}"


def _prefixed(prefix: str, piece: Piece) -> Piece:
    if isinstance(piece, str):
        return prefix + piece
    return Group(prefix + piece.head, piece.pieces, piece.tail, piece.lone_comma)


def call(function: str, arguments: Iterable[Piece]) -> Group:
    return Group(f"{function}(", list(arguments), ")")


def keywords(values: Mapping[str, Any], imports: Imports) -> list[Piece]:
    """Values as the keyword arguments of a call."""
    if not all(name.isidentifier() and not keyword.iskeyword(name) for name in values):
        return [_prefixed("**", literal(dict(values), imports))]
    return [_prefixed(f"{name}=", literal(value, imports)) for name, value in values.items()]


class Imports:
    """What a text needs of other modules. ``home`` is the module that it stands in, if that is there already."""

    def __init__(self, home: str = "") -> None:
        self._home = home
        self._modules: dict[str, str] = {}
        self.names: dict[str, str] = {}
        """Name -> the module that it comes from."""

    def module(self, module: str, comment: str = "") -> str:
        self._modules.setdefault(module, comment)
        return module

    def name(self, module: str, name: str) -> str:
        """What to write for an object of a module."""
        if module == self._home:
            return name
        first = name.partition(".")[0]
        if self.names.setdefault(first, module) != module:
            return f"{self.module(module)}.{name}"
        return name

    def statements(self) -> list[Import]:
        found = [Import(module, (), comment) for module, comment in self._modules.items()]
        modules = sorted(set(self.names.values()))
        found += [
            Import(module, tuple(n for n, m in self.names.items() if m == module)) for module in modules
        ]
        return found


@dataclass(frozen=True, slots=True)
class Import:
    """One statement: of a module, or of names from it."""

    module: str
    names: tuple[str, ...] = ()
    comment: str = ""

    def place(self, root: Path) -> tuple[int, bool, str]:
        """Where it stands among others: the standard library, then what is installed, then the project's own."""
        top = self.module.partition(".")[0]
        if top == "__future__":
            section = 0
        elif top in sys.stdlib_module_names:
            section = 1
        else:
            own = (folder / name for folder in (root, root / "src") for name in (top, f"{top}.py"))
            section = 3 if any(path.exists() for path in own) else 2
        return section, bool(self.names), self.module.lower()

    def __str__(self) -> str:
        if not self.names:
            return f"import {self.module}{self.comment}"
        head, names = f"from {self.module} import ", sorted(self.names, key=_order_of_name)
        line = head + ", ".join(names)
        return line if len(line) <= LINE else rendered(Group(f"{head}(", names, ")"))


def _order_of_name(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2), name.lower()


def import_lines(imports: Iterable[Import], root: Path) -> list[str]:
    """A block of imports, a blank line between its sections."""
    lines: list[str] = []
    section = None
    for statement in sorted(imports, key=lambda one: one.place(root)):
        if section not in (None, statement.place(root)[0]):
            lines.append("")
        section = statement.place(root)[0]
        lines += str(statement).splitlines()
    return lines


def with_imports(source: str, imports: Imports, root: Path) -> str:
    """A file with the imports that it lacks, each beside its like.

    Raises:
        Unusable: a name means something else there.
    """
    tree = ast.parse(source)
    _check_names(tree, imports)
    lines = source.splitlines()
    there = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    changes: list[tuple[int, int, list[str]]] = []
    fresh: dict[int, list[Import]] = {}
    for wanted in imports.statements():
        lacking = _lacking(wanted, there)
        if lacking is None:
            continue
        alike = [node for node in there if isinstance(node, ast.ImportFrom) and _is_of(node, lacking)]
        if lacking.names and alike and "#" not in (ast.get_source_segment(source, alike[0]) or "#"):
            node = alike[0]
            known = tuple(a.name if a.asname is None else f"{a.name} as {a.asname}" for a in node.names)
            merged = replace(lacking, names=(*known, *lacking.names))
            changes.append((node.lineno - 1, node.end_lineno or node.lineno, str(merged).splitlines()))
            continue
        index = sum(_place_of(node, root) <= lacking.place(root) for node in there)
        fresh.setdefault(index, []).append(lacking)
    for index, statements in fresh.items():
        at, block = _block(tree, there, index, statements, root)
        if at < len(lines) and not lines[at].strip() and block[-1:] == [""]:
            block = block[:-1]
        changes.append((at, at, block))
    for start, end, block in sorted(changes, reverse=True):
        lines[start:end] = block
    return "\n".join(lines) + "\n"


def _block(
    tree: ast.Module,
    there: Sequence[ast.Import | ast.ImportFrom],
    index: int,
    statements: Sequence[Import],
    root: Path,
) -> tuple[int, list[str]]:
    """The lines of new imports before the ``index``-th of those that are there, and the line before which they go."""
    block = import_lines(statements, root)
    sections = sorted(one.place(root)[0] for one in statements)
    if not there:
        at = _after_docstring(tree)
        return at, ["", *block] if at else [*block, "", ""]
    if index:
        before = there[index - 1]
        at = before.end_lineno or before.lineno
        if _place_of(before, root)[0] != sections[0]:
            block = ["", *block]
    else:
        at = there[0].lineno - 1
    if index < len(there) and _place_of(there[index], root)[0] != sections[-1]:
        block = [*block, ""]
    return at, block


def _place_of(node: ast.Import | ast.ImportFrom, root: Path) -> tuple[int, bool, str]:
    if isinstance(node, ast.ImportFrom) and node.level:
        return 4, True, node.module or ""
    name = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
    return Import(name, ("",) if isinstance(node, ast.ImportFrom) else ()).place(root)


def _is_of(node: ast.ImportFrom, wanted: Import) -> bool:
    return node.module == wanted.module and not node.level


def _lacking(wanted: Import, there: Sequence[ast.Import | ast.ImportFrom]) -> Import | None:
    """What of an import is not there yet."""
    if not wanted.names:
        known = {
            alias.name
            for node in there
            if isinstance(node, ast.Import)
            for alias in node.names
            if not alias.asname
        }
        return None if wanted.module in known else wanted
    alike = [node for node in there if isinstance(node, ast.ImportFrom) and _is_of(node, wanted)]
    known = {alias.name for node in alike for alias in node.names if alias.asname is None}
    names = tuple(name for name in wanted.names if name not in known)
    return replace(wanted, names=names) if names else None


def _check_names(tree: ast.Module, imports: Imports) -> None:
    meant: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            meant[node.name] = "a definition of its own"
        elif isinstance(node, ast.Assign):
            meant.update({t.id: "a variable of its own" for t in node.targets if isinstance(t, ast.Name)})
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                meant[alias.asname or alias.name] = "" if alias.asname else node.module or ""
        elif isinstance(node, ast.Import):
            meant.update({alias.asname or alias.name: "a module" for alias in node.names})
    for name, module in imports.names.items():
        if meant.get(name, module) != module:
            raise Unusable(
                f"{name} is something else there ({meant[name] or 'renamed'}), and {module}'s is needed"
            )


def _after_docstring(tree: ast.Module) -> int:
    first = tree.body[0] if tree.body else None
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (first.end_lineno or 0) if first is not None and is_docstring else 0


def literal(value: Any, imports: Imports) -> Piece:
    """A value as it would be written."""

    def many(values: Iterable[Any]) -> list[Piece]:
        return [literal(inner, imports) for inner in values]

    kind = type(value)
    if isinstance(value, enum.Enum):
        return f"{imports.name(kind.__module__, kind.__qualname__)}.{value.name}"
    if kind is dict:
        pairs = ((rendered(literal(key, imports)), literal(inner, imports)) for key, inner in value.items())
        return Group("{", [_prefixed(f"{key}: ", inner) for key, inner in pairs], "}")
    if kind is list:
        return Group("[", many(value), "]")
    if kind is tuple:
        return Group("(", many(value), ")", lone_comma=True)
    if kind in (set, frozenset) and value:
        head, tail = ("{", "}") if kind is set else ("frozenset({", "})")
        return Group(head, many(sorted(value, key=repr)), tail)
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta | datetime.timezone):
        imports.module("datetime")
        text = repr(value).replace("datetime.timezone.utc", "datetime.UTC")
        return _taken_apart(ast.parse(text, mode="eval").body)
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return f'{imports.module(kind.__module__)}.{kind.__name__}("{value}")'
    fields: Mapping[str, Any] | None = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        known = {name: getattr(value, name) for name, field in fields.items() if field.init}
        return call(imports.name(kind.__module__, kind.__qualname__), keywords(known, imports))
    if hasattr(value, "_asdict"):
        return call(imports.name(kind.__module__, kind.__qualname__), keywords(value._asdict(), imports))
    return _plain(value)


def _taken_apart(node: ast.expr) -> Piece:
    """A call of which Python has the text, so that it can be broken into lines."""
    if not isinstance(node, ast.Call):
        return ast.unparse(node)
    given = [_prefixed(f"{one.arg}=", _taken_apart(one.value)) for one in node.keywords]
    return call(ast.unparse(node.func), [*map(_taken_apart, node.args), *given])


def _plain(value: Any) -> str:
    text = repr(value)
    if isinstance(value, float):
        return f'float("{text}")' if text in ("nan", "inf", "-inf") else text.replace("e+", "e")
    if isinstance(value, str | bytes):
        # The quotes of ruff and Black, where that needs no escapes.
        prefix = "b" if isinstance(value, bytes) else ""
        inner = text[len(prefix) :]
        if inner[0] == "'" and '"' not in inner:
            return f'{prefix}"{inner[1:-1]}"'
    return text
