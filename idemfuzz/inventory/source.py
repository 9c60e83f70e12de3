"""A tree of Python files as modules whose names can be followed: through imports, assignments and parameters."""

from __future__ import annotations

import ast
import hashlib
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

__all__ = ["Function", "Module", "Sources", "fingerprint", "shown_path"]

_SKIPPED = {"node_modules", "site-packages", "__pycache__", "build", "dist", "venv", "env"}
_HOPS_MAX = 20


@dataclass(slots=True)
class Module:
    """One file. ``names`` says what each of its global names is, as far as the text tells."""

    name: str
    path: Path
    tree: ast.Module
    names: dict[str, str] = field(default_factory=dict)
    """Global name -> dotted name of what was imported, or (for a variable) of the call that made it, with ``()``."""
    functions: dict[str, Function] = field(default_factory=dict)
    """Qualified name -> definition; those within functions have ``<locals>`` in it."""
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    calls: list[ast.Call] = field(default_factory=list)
    values: dict[str, list[ast.expr]] = field(default_factory=dict)
    """Global name -> what is assigned to it."""
    is_test: bool = False


class Sources:
    """All modules below some folders or files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.modules: dict[str, Module] = {}
        self.unreadable: list[tuple[Path, str]] = []
        self._following: set[tuple[int, str]] = set()
        self._assignments: dict[int, dict[str, list[ast.expr]]] = {}
        self._bases: dict[tuple[str, str], list[str]] = {}
        for path in paths:
            for file in _files(path):
                self._read(file)

    def _read(self, file: Path) -> None:
        try:
            with tokenize.open(file) as opened:
                tree = ast.parse(opened.read(), filename=str(file))
        except (SyntaxError, UnicodeDecodeError, OSError, ValueError) as error:
            self.unreadable.append((file, str(error)))
            return
        name = _module_name(file)
        module = Module(name, file, tree, is_test=_is_test(file))
        nodes = list(ast.walk(tree))
        for node in nodes:
            for child in ast.iter_child_nodes(node):
                module.parents[child] = node
            if isinstance(node, ast.Call):
                module.calls.append(node)
        _enter_functions(module, tree, "")
        for node in nodes:
            _enter_names(module, node)
        for node in nodes:
            _enter_attributes(module, node)
        self.modules.setdefault(name, module)

    def resolve(self, module: Module, node: ast.expr, scope: ast.AST | None = None) -> str:
        """The dotted name of an expression, as far as it can be followed; empty where it is something else.

        A call is followed by ``()``: ``app = Celery("x")`` makes ``app.task`` to ``celery.Celery().task``.
        """
        if isinstance(node, ast.Call):
            made = self.resolve(module, node.func, scope)
            if made in ("functools.partial", "partial") and node.args:
                return self.resolve(module, node.args[0], scope)
            return f"{made}()" if made else ""
        if isinstance(node, ast.Attribute):
            owner = self.resolve(module, node.value, scope)
            return self.follow(f"{owner}.{node.attr}") if owner else ""
        if isinstance(node, ast.Subscript):
            return self.resolve(module, node.value, scope)
        if not isinstance(node, ast.Name):
            return ""
        local = self._local(module, node.id, scope)
        if local:
            return self.follow(local)
        assigned = self._assigned(module, node, scope)
        if assigned:
            return assigned
        if node.id in module.functions or self._class(module, node.id):
            return f"{module.name}.{node.id}"
        meant = module.names.get(node.id, node.id)
        first = meant.partition(".")[0].removesuffix("()")
        is_own = meant != node.id and (first in module.functions or self._class(module, first))
        return self.follow(f"{module.name}.{meant}" if is_own else meant)

    def _assigned(self, module: Module, name: ast.Name, scope: ast.AST | None) -> str:
        """What a variable of the function around is, where all that is assigned to it is one thing."""
        if not isinstance(scope, Function):
            return ""
        values = self._variables(scope).get(name.id, [])
        key = (id(scope), name.id)
        if not values or key in self._following:
            return ""
        self._following.add(key)
        try:
            meant = {self.resolve(module, value, scope) for value in values}
        finally:
            self._following.discard(key)
        return meant.pop() if len(meant) == 1 else ""

    def _variables(self, scope: Function) -> dict[str, list[ast.expr]]:
        """What is assigned to the variables of a function, without what is made of itself (``q = q.where(...)``)."""
        known = self._assignments.get(id(scope))
        if known is None:
            known = self._assignments[id(scope)] = {}
            for node in ast.walk(scope):
                if isinstance(node, ast.Assign):
                    used = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            known.setdefault(target.id, []).extend([] if target.id in used else [node.value])
        return known

    def _local(self, module: Module, name: str, scope: ast.AST | None) -> str:
        """A name that the enclosing functions give a meaning: an import, a nested function, ``self``."""
        while scope is not None and not isinstance(scope, ast.Module):
            if isinstance(scope, Function):
                qualified = next((q for q, f in module.functions.items() if f is scope), "")
                nested = f"{qualified}.<locals>.{name}"
                if nested in module.functions:
                    return f"{module.name}.{nested}"
                if name in ("self", "cls") and "." in qualified:
                    return f"{module.name}.{qualified.rpartition('.')[0]}"
                for node in ast.walk(scope):
                    if isinstance(node, ast.Import | ast.ImportFrom):
                        found = dict(_imported(module, node))
                        if name in found:
                            return found[name]
            scope = module.parents.get(scope)
        return ""

    def follow(self, dotted: str) -> str:
        """What a dotted name means where it leads into one of these modules: a re-export is what it re-exports."""
        for _ in range(_HOPS_MAX):
            head, rest = self._split(dotted)
            if head is None or not rest:
                return dotted
            first, _, tail = rest.partition(".")
            if "." in rest and rest in head.names:
                dotted = head.names[rest]
                continue
            if rest in head.functions or self._class(head, first):
                return dotted
            meant = head.names.get(first)
            if meant is None or meant == dotted:
                return dotted
            following = f"{meant}.{tail}" if tail else meant
            if following == dotted:
                return dotted
            dotted = following
        return dotted

    def function(self, dotted: str) -> tuple[Module, str, Function] | None:
        """The definition behind a dotted name, if it is in these modules."""
        module, rest = self._split(self.follow(dotted))
        if module is None:
            return None
        # A method of an object is one of its class.
        rest = rest.replace("()", "")
        found = module.functions.get(rest)
        if found is None and self._class(module, rest):
            # A callable object: its class stands for it.
            found = module.functions.get(f"{rest}.__call__")
        owner, _, method = rest.rpartition(".")
        if found is None and owner and method != "__call__":
            for base in self.bases(module, owner):
                inherited = self.function(f"{base}.{method}")
                if inherited is not None:
                    return inherited
        return None if found is None else (module, rest, found)

    def bases(self, module: Module, name: str) -> list[str]:
        """The dotted names of a class's bases, as they are written; none for what is no class here."""
        known = self._bases.get((module.name, name))
        if known is None:
            known = []
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    resolved = [self.resolve(module, base) for base in node.bases]
                    known = [base for base in resolved if base and base != f"{module.name}.{name}"]
            self._bases[module.name, name] = known
        return known

    def subclasses(self, dotted: str) -> Iterator[tuple[Module, str]]:
        """The classes below a class, at any depth."""
        for module in self.modules.values():
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef) and dotted in self.bases(module, node.name):
                    yield module, node.name
                    yield from self.subclasses(f"{module.name}.{node.name}")

    def scope_of(self, module: Module, node: ast.AST) -> Function | None:
        """The function that a node stands in."""
        above = module.parents.get(node)
        while above is not None and not isinstance(above, Function):
            above = module.parents.get(above)
        return above

    def _split(self, dotted: str) -> tuple[Module | None, str]:
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            module = self.modules.get(".".join(parts[:count]))
            if module is not None:
                return module, ".".join(parts[count:])
        return None, dotted

    @staticmethod
    def _class(module: Module, name: str) -> bool:
        return any(isinstance(node, ast.ClassDef) and node.name == name for node in module.tree.body)


def fingerprint(function: ast.AST) -> str:
    """Equal for a function that reads the same, comments and layout aside."""
    return hashlib.sha256(ast.dump(function).encode()).hexdigest()[:16]


def shown_path(path: Path, root: Path) -> str:
    """Relative to the root where it lies below it."""
    try:
        return str(path.resolve().relative_to(root.resolve()))
    except ValueError:
        return str(path)


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.name.startswith(".") or entry.name in _SKIPPED or entry.name.endswith(".egg-info"):
            continue
        if entry.is_dir():
            if not (entry / "pyvenv.cfg").exists():
                yield from _files(entry)
        elif entry.suffix == ".py":
            yield entry


def _module_name(file: Path) -> str:
    """As it would be imported: from the first folder upwards that is no package."""
    file = file.resolve()
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) or file.stem


def _is_test(file: Path) -> bool:
    inside = {part.lower() for part in file.parts[-4:-1]}
    return (
        file.stem.startswith("test_")
        or file.stem.endswith("_test")
        or file.stem == "conftest"
        or bool(inside & {"tests", "test"})
    )


def _enter_functions(module: Module, node: ast.AST, prefix: str) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            name = f"{prefix}{child.name}"
            module.functions[name] = child
            _enter_functions(module, child, f"{name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            _enter_functions(module, child, f"{prefix}{child.name}.")
        else:
            _enter_functions(module, child, prefix)


def _enter_names(module: Module, node: ast.AST) -> None:
    if isinstance(node, ast.Import | ast.ImportFrom):
        for name, meant in _imported(module, node):
            module.names.setdefault(name, meant)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(
        module.parents.get(node), ast.Module | ast.If | ast.Try
    ):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        value = node.value
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                module.values.setdefault(target.id, []).append(value)
        if (
            isinstance(value, ast.Call)
            and _dotted(value.func) in ("functools.partial", "partial")
            and value.args
        ):
            value = value.args[0]
        made = _said(value) if value is not None else ""
        head, dot, rest = made.partition(".")
        if made and made != "()":
            head = module.names.get(head.removesuffix("()"), head.removesuffix("()")) + (
                "()" if head.endswith("()") else ""
            )
            for target in targets:
                if isinstance(target, ast.Name) and target.id != head:
                    module.names.setdefault(target.id, f"{head}{dot}{rest}")


def _enter_attributes(module: Module, node: ast.AST) -> None:
    """``self.send = queue.enqueue`` in a method makes the class's ``send`` a name."""
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        if (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.value.id == "self"
        ):
            above: ast.AST | None = node
            while above is not None and not isinstance(above, ast.ClassDef):
                above = module.parents.get(above)
            head, dot, rest = _said(node.value).partition(".")
            if above is not None and head:
                plain = head.removesuffix("()")
                meant = module.names.get(plain, "") + head.removeprefix(plain)
                if module.names.get(plain):
                    module.names.setdefault(f"{above.name}.{target.attr}", f"{meant}{dot}{rest}")


def _imported(module: Module, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (
                alias.asname or alias.name.partition(".")[0],
                alias.name if alias.asname else alias.name.partition(".")[0],
            )
        return
    base = node.module or ""
    if node.level:
        parts = module.name.split(".")
        kept = parts if module.path.stem == "__init__" else parts[:-1]
        above = kept[: len(kept) - (node.level - 1)]
        base = ".".join([*above, base] if base else above)
    for alias in node.names:
        yield alias.asname or alias.name, f"{base}.{alias.name}" if base else alias.name


def _said(node: ast.expr) -> str:
    """A dotted name in which calls are followed by ``()``."""
    if isinstance(node, ast.Call):
        made = _said(node.func)
        return f"{made}()" if made else ""
    if isinstance(node, ast.Attribute):
        owner = _said(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
