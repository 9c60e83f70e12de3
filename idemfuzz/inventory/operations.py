"""What a job's source does to the outside, and which of it may not be repeated; told from the text alone.

It follows calls into the application's own functions. What it does not see (a library that writes, a name made at run
time) traces may show; what it shows is a reason to look, not a finding.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from idemfuzz.inventory.source import Function, Module, Sources, shown_path

__all__ = ["Operation", "operations_of", "strategy_of"]

_DEPTH_MAX = 6
_FUNCTIONS_MAX = 200
_COUNTING = {"incr", "incrby", "incrbyfloat", "decr", "decrby", "hincrby", "hincrbyfloat", "zincrby"}
_ADDING = {"rpush", "lpush", "rpushx", "lpushx", "xadd", "publish"}
_MAILING = {"send_message", "sendmail", "send_mail", "send_mass_mail", "send_email"}
_ENQUEUEING = {
    "enqueue",
    "enqueue_call",
    "enqueue_at",
    "enqueue_in",
    "enqueue_many",
    "delay",
    "apply_async",
    "send_task",
}
_REQUESTING = re.compile(
    r"(requests|httpx)(\.(Session|Client|AsyncClient)\(\))?\.(post|patch|request)|urllib\.request\.urlopen"
)
_VERBS = {"post", "patch"}
_CLIENT = re.compile(r"(http|session|client|api|requests)$", re.I)
_INSERT = re.compile(r"\binsert\s+(?:into\s+)?[\"`]?(?P<table>[\w.]+)", re.I)
_UPDATE = re.compile(
    r"^\s*update\s+[\"`]?(?P<table>[\w.]+)[\"`]?\s+set\s+(?P<set>.*?)(?:\bwhere\b(?P<where>.*))?$",
    re.I | re.S,
)
_ONCE = re.compile(
    r"\bon\s+conflict\b|\bon\s+duplicate\b|\binsert\s+(?:or\s+)?ignore\b|\bnot\s+exists\b", re.I
)
_KEYED = re.compile(r"idempotency", re.I)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that a second delivery would do again, with what speaks against that in the same statement."""

    kind: str
    """insert, update, counter, element, mail, http, enqueue, append"""
    what: str
    file: str
    line: int
    guarded: bool = False

    def __str__(self) -> str:
        return f"{self.what} ({self.file}:{self.line})"


def operations_of(sources: Sources, module: Module, function: Function, root: Path) -> list[Operation]:
    """In the order of the source, what a job and the application's functions that it calls may not repeat."""
    found: dict[tuple[str, int, str], Operation] = {}
    reached = list(_reached(sources, module, function))
    given = _given(reached)
    for place, node in reached:
        for kind, what, guarded in _operation(sources, place, node, given):
            file = shown_path(place.path, root)
            line = getattr(node, "lineno", 0)
            found.setdefault((file, line, kind), Operation(kind, what, file, line, guarded))
    return list(found.values())


def strategy_of(sources: Sources, module: Module, function: Function) -> list[str]:
    """Which strategies the text shows: a guess, where no proof says more."""
    found: dict[str, None] = {}
    reached = list(_reached(sources, module, function))
    given = _given(reached)
    for place, node in reached:
        if isinstance(node, ast.Call):
            name = _last(node.func)
            words = {k.arg for k in node.keywords}
            if name in (
                "on_conflict_do_nothing",
                "on_conflict_do_update",
                "on_duplicate_key_update",
                "get_or_create",
                "update_or_create",
            ):
                found["unique constraint"] = None
            elif (name == "set" and "nx" in words) or name in ("setnx", "hsetnx"):
                found["claim in Redis (NX)"] = None
            elif name in ("with_for_update", "select_for_update") or (name == "lock" and node.args):
                found["lock"] = None
            elif name in ("transaction", "watch"):
                found["WATCH and MULTI"] = None
            elif words & {"idempotency_key"} or _has_key(node, sources.scope_of(place, node), given):
                found["idempotency key"] = None
            elif name in ("eval", "register_script", "evalsha"):
                found["Lua script"] = None
        elif isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type is not None else ""
            if re.search(r"IntegrityError|UniqueViolation|DuplicateKey", caught):
                found["unique constraint"] = None
        elif isinstance(node, ast.Attribute) and node.attr == "rowcount":
            found["conditional write"] = None
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _ONCE.search(node.value):
            found["unique constraint"] = None
    return list(found)


def _reached(sources: Sources, module: Module, function: Function) -> Iterator[tuple[Module, ast.AST]]:
    """All nodes of a function and of what it calls in the application, each function once."""
    waiting = [(module, function, 0)]
    seen = {id(function)}
    while waiting:
        place, current, depth = waiting.pop(0)
        nodes = [node for statement in current.body for node in ast.walk(statement)]
        for node in nodes:
            yield place, node
            if not isinstance(node, ast.Call) or depth >= _DEPTH_MAX or len(seen) > _FUNCTIONS_MAX:
                continue
            meant = sources.function(sources.resolve(place, node.func, current))
            if meant is not None and id(meant[2]) not in seen and not meant[0].is_test:
                seen.add(id(meant[2]))
                waiting.append((meant[0], meant[2], depth + 1))


def _given(reached: Iterable[tuple[Module, ast.AST]]) -> set[str]:
    """The names of all keyword arguments of the calls among these nodes."""
    return {k.arg for _, node in reached if isinstance(node, ast.Call) for k in node.keywords if k.arg}


def _operation(
    sources: Sources, module: Module, node: ast.AST, given: set[str]
) -> Iterator[tuple[str, str, bool]]:
    if (
        isinstance(node, ast.AugAssign)
        and isinstance(node.target, ast.Attribute)
        and isinstance(node.op, ast.Add | ast.Sub)
    ):
        sign = "+" if isinstance(node.op, ast.Add) else "-"
        if ast.unparse(node.target.value) not in ("self", "cls"):
            yield "counter", f"{ast.unparse(node.target)} {sign}= {ast.unparse(node.value)[:30]}", False
    if not isinstance(node, ast.Call):
        return
    name = _last(node.func)
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    meant = sources.resolve(module, node.func, sources.scope_of(module, node))
    if name in ("add", "add_all", "bulk_create", "bulk_save_objects", "bulk_insert_mappings") and _is_session(
        owner, name
    ):
        yield "insert", f"INSERT by {owner}.{name}({_short(node)})", False
    elif name == "create" and owner.endswith(".objects"):
        yield "insert", f"INSERT by {owner}.create(...)", False
    elif name == "insert" and (not owner or "sqlalchemy" in meant or owner.endswith("__table__")):
        guarded = _chained(
            module,
            node,
            ("on_conflict_do_nothing", "on_conflict_do_update", "on_duplicate_key_update", "prefix_with"),
        )
        yield "insert", f"INSERT into {_short(node) or owner}", guarded
    elif name == "update" and (not owner or "sqlalchemy" in meant or owner.endswith("__table__")):
        yield from _updated(module, node)
    elif name in _COUNTING:
        yield "counter", f"{name.upper()} {_short(node)}", False
    elif name in _ADDING and owner:
        yield "element", f"{name.upper()} {_short(node)}", False
    elif name in _MAILING:
        yield "mail", f"mail by {name}", False
    elif _REQUESTING.fullmatch(meant) or (name in _VERBS and _CLIENT.search(owner)):
        keyed = _has_key(node, sources.scope_of(module, node), given)
        yield "http", f"HTTP {name.upper()}{'' if keyed else ' without idempotency key'}", keyed
    elif name in _ENQUEUEING and owner:
        keyed = any(k.arg in ("job_id", "task_id") for k in node.keywords)
        yield "enqueue", f"child job by {owner}.{name}({_short(node)})", keyed
    elif name == "open" and _mode(node).startswith("a"):
        yield "append", f"appends to {_short(node)}", False
    elif name in ("text", "execute", "exec_driver_sql", "executemany") and node.args:
        yield from _said_in_sql(node.args[0])


def _said_in_sql(node: ast.expr) -> Iterator[tuple[str, str, bool]]:
    if isinstance(node, ast.JoinedStr):
        sql = "".join(str(v.value) if isinstance(v, ast.Constant) else "?" for v in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        sql = node.value
    else:
        return
    inserted = _INSERT.match(sql.lstrip())
    changed = _UPDATE.match(sql)
    if inserted:
        yield "insert", f"INSERT into {inserted['table']}", bool(_ONCE.search(sql))
    elif changed:
        columns = re.findall(r"[\"`]?(\w+)[\"`]?\s*=", changed["set"])
        moves = any(re.search(rf"\b{column}\b[\"`]?\s*[+-]", changed["set"]) for column in columns)
        guarded = any(re.search(rf"\b{column}\b", changed["where"] or "") for column in columns)
        if moves or not guarded:
            kind = "counter" if moves else "update"
            yield (
                kind,
                f"UPDATE {changed['table']} SET {', '.join(columns)}"
                + ("" if guarded else " without precondition"),
                guarded,
            )


def _updated(module: Module, node: ast.Call) -> Iterator[tuple[str, str, bool]]:
    """SQLAlchemy's update(): what its values() sets, and whether its where() asks for one of these."""
    chain: list[ast.Call] = []
    current: ast.AST = node
    while True:
        above = module.parents.get(current)
        call = module.parents.get(above) if isinstance(above, ast.Attribute) else None
        if not isinstance(call, ast.Call):
            break
        chain.append(call)
        current = call
    values = [c for c in chain if _last(c.func) == "values"]
    if not values:
        return
    columns = {k.arg for call in values for k in call.keywords if k.arg}
    for call in values:
        for given in call.args:
            if isinstance(given, ast.Dict):
                columns |= {
                    str(getattr(k, "value", getattr(k, "attr", ""))) for k in given.keys if k is not None
                }
    wheres = " ".join(
        ast.unparse(a)
        for c in chain
        if _last(c.func) in ("where", "filter", "filter_by")
        for a in (*c.args, *(k.value for k in c.keywords))
    )
    wheres += " ".join(f".{k.arg}" for c in chain if _last(c.func) == "filter_by" for k in c.keywords)
    set_ = " ".join(ast.unparse(a) for c in values for a in (*c.args, *(k.value for k in c.keywords)))
    moves = any(re.search(rf"\.{re.escape(column)}\s*[+-]", set_) for column in columns)
    guarded = any(re.search(rf"\.{re.escape(column)}\b", wheres) for column in columns)
    if moves or not guarded:
        note = "" if guarded else " without precondition"
        yield (
            "counter" if moves else "update",
            f"UPDATE {_short(node)} SET {', '.join(sorted(columns)) or '...'}{note}",
            guarded,
        )


def _is_session(owner: str, name: str) -> bool:
    return name != "add" or bool(re.search(r"(session|db|s)(\(\))?$", owner, re.I))


def _chained(module: Module, node: ast.Call, names: tuple[str, ...]) -> bool:
    current: ast.AST = node
    while True:
        above = module.parents.get(current)
        if not isinstance(above, ast.Attribute | ast.Call):
            return False
        if isinstance(above, ast.Attribute) and above.attr in names:
            return True
        current = above


def _has_key(node: ast.Call, scope: Function | None, given: set[str]) -> bool:
    """Whether a request names an idempotency key: in its arguments, or in what ``scope`` puts into the variables there.

    Where the key is an argument of ``scope`` that may be left out, one of the calls has to give it.
    """
    if any(k.arg is not None and _KEYED.search(k.arg) for k in node.keywords):
        return True
    values: list[ast.AST] = [k.value for k in node.keywords]
    names = {value.id for value in values if isinstance(value, ast.Name)}
    if scope is not None and names:
        for statement in ast.walk(scope):
            if isinstance(statement, ast.Assign) and any(_base(t) in names for t in statement.targets):
                values.append(statement)
    said = any(
        isinstance(inner, ast.Constant) and isinstance(inner.value, str) and _KEYED.search(inner.value)
        for value in values
        for inner in ast.walk(value)
    )
    optional = _optional(scope) if scope is not None else set()
    return said and (not optional or bool(optional & given))


def _base(target: ast.expr) -> str:
    """The variable that an assignment to it, or to an element of it, changes."""
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def _optional(function: Function) -> set[str]:
    """The arguments with a default that are an idempotency key by their name."""
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    with_default = plain[len(plain) - len(given.defaults) :]
    with_default += [a for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default]
    return {argument.arg for argument in with_default if _KEYED.search(argument.arg)}


def _mode(node: ast.Call) -> str:
    given = next((k.value for k in node.keywords if k.arg == "mode"), None)
    place = 1 if isinstance(node.func, ast.Name) else 0
    if given is None and len(node.args) > place:
        given = node.args[place]
    return str(given.value) if isinstance(given, ast.Constant) else ""


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _short(node: ast.Call) -> str:
    return " ".join(ast.unparse(node.args[0]).split())[:40] if node.args else ""
