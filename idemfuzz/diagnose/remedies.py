"""What a person would write against each mistake, in the job's own tables, columns, keys and arguments.

Values of arguments are looked at to see which column or key they end in, and never printed: a snippet names the argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idemfuzz.abc import JobCall, Wording
from idemfuzz.diagnose.mechanism import Diagnosis, Mechanism
from idemfuzz.model import Delta, Difference, DifferenceKind, Event, Fact, FactKind

__all__ = ["snippet"]

_MARKS, _MARK = "processed_jobs", "job_key"
"""Where a job is recorded that leaves nothing else by which it could be known again."""
_CLAIM = "if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then {work} end return 0"
_RAISE = "except Exception:\n    raise  # {}"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_ID = re.compile(r"(?:^|_)(?:id|ids|key|number|no|uuid|ref|reference|token|event|code|email)$", re.I)
_PLACE = re.compile(r"(?:^|_)(?:ur[il]|host|port|dsn|path|folder)$", re.I)
_WORD_LENGTH_MAX = 80
_NO_ID = "job_id"
"""What a producer can give where the arguments do not tell two jobs apart."""
_ARE_SEVERAL = frozenset({"MULTI", "EXEC", "PIPELINE", "EVAL", "EVALSHA"})
_PLAIN_CONTAINERS = (list, tuple, set, frozenset)
_UNIQUE = (
    Mechanism.CHECK_THEN_ACT,
    Mechanism.MISSING_CONSTRAINT,
    Mechanism.GUARD_EXPIRES,
    Mechanism.EFFECT_BEFORE_GUARD,
    Mechanism.NEW_ID,
    Mechanism.LOST_WRITE,
    Mechanism.GUARD_BEFORE_EFFECT,
)
_MARKED = (
    Mechanism.UNCONDITIONAL,
    Mechanism.CHECK_THEN_ACT,
    Mechanism.GUARD_EXPIRES,
    Mechanism.EFFECT_BEFORE_GUARD,
    Mechanism.LOST_REPLY,
    Mechanism.LOST_WRITE,
    Mechanism.GUARD_BEFORE_EFFECT,
)


def snippet(
    told: Diagnosis,
    difference: Difference,
    makes_up: Callable[[str, str], bool],
    *,
    among: Sequence[Difference] = (),
    call: JobCall | None = None,
    reference: Delta | None = None,
    wording: Wording | None = None,
) -> str:
    """The lines for one diagnosis; empty where they would say no more than the remedy of its code.

    ``among`` are all differences that have this cause, ``call`` is the job's call, ``reference`` what one clean delivery
    changes, ``wording`` the store's own language.
    """
    # Who makes a parent twice makes its children twice: the parent is where that can be told.
    parents = {parent for parent in difference.fact.generated.values() if parent != difference.group}
    difference = next(
        (one for one in among if one.group in parents and one.kind is DifferenceKind.EXTRA), difference
    )
    terms = _Terms(told, difference, makes_up, call, reference or Delta(), wording)
    match told.mechanism:
        case Mechanism.RELEASE_WITHOUT_OWNER:
            return terms.release()
        case Mechanism.NO_EXPIRY:
            return terms.expiry()
        case Mechanism.SWALLOWED:
            return _RAISE.format("the queue delivers again; catch only what the job can set right")
        case Mechanism.TWO_COMMITS:
            return terms.one_transaction()
    match difference.fact.kind:
        case FactKind.ROW if told.mechanism is Mechanism.LOST_REPLY:
            return _RAISE.format("it may be done all the same; the redelivery finds it under its key")
        case FactKind.ROW:
            return terms.row()
        case FactKind.KEY:
            return terms.key()
        case FactKind.FILE:
            return terms.file()
    return terms.call_outside()


@dataclass(frozen=True, slots=True)
class _Terms:
    """One finding's own words."""

    told: Diagnosis
    difference: Difference
    makes_up: Callable[[str, str], bool]
    job_call: JobCall | None
    reference: Delta
    wording: Wording | None
    fact: Fact = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fact", self.difference.fact)

    # -- the job ---------------------------------------------------------------------------------------------

    @property
    def given(self) -> Mapping[str, Any]:
        return self.job_call.arguments if self.job_call is not None else {}

    @property
    def ids(self) -> Mapping[str, Any]:
        """Arguments that are named like ids."""
        return {name: value for name, value in self.given.items() if _ID.search(name) and _is_plain(value)}

    @property
    def words(self) -> Mapping[str, Any]:
        """Arguments that may be part of a key: those named like ids where there are any, else all short texts."""
        return self.ids or {
            name: value
            for name, value in self.given.items()
            if _is_plain(value) and not isinstance(value, int) and not _PLACE.search(name)
        }

    def job_key(self, joint: str = ":", *, sure: bool = False) -> str:
        """An expression for what is the same in each run of one job. ``sure``: and in no other job."""
        job = self.job_call.name.rpartition(".")[2] if self.job_call is not None else "job"
        names = list(self.ids if sure else self.words) or [_NO_ID]
        return f'f"{joint.join([job, *(f"{{{name}}}" for name in names)])}"'

    def named(self, key: str) -> str:
        """A Redis key or path as an expression of the job's arguments."""
        made = key.replace("{", "{{").replace("}", "}}")
        for name, value in self.words.items():
            made = re.sub(rf"(?<![\w{{]){re.escape(str(value))}(?!\w)", f"{{{name}}}", made, count=1)
        quote = "'" if '"' in made else '"'
        return f"f{quote}{made}{quote}" if made != key else f"{quote}{key}{quote}"

    # -- rows ------------------------------------------------------------------------------------------------

    def row(self) -> str:
        wording = self.wording
        if wording is None:
            return ""
        added = self.difference.kind is DifferenceKind.EXTRA and not self.difference.removal
        missing = self.difference.kind is DifferenceKind.MISSING and not self.difference.removal
        if (added or (missing and self.difference.actual is None)) and self.told.mechanism in _UNIQUE:
            return self._inserted(wording)
        if not self.difference.columns:
            return ""
        if self.told.mechanism is Mechanism.LOST_UPDATE:
            return self._moved(wording)
        return self._marked(wording) if self.told.mechanism in _MARKED else ""

    def _inserted(self, wording: Wording) -> str:
        key = self._key_columns()
        columns = [
            name
            for name, value in self.fact.fields.items()
            if value is not None and (name not in self.fact.generated or self._is_given(name))
        ]
        if not key:
            return ""
        lines = (
            [] if set(key) == set(self.fact.identity) else [f"{wording.unique_key(self.fact.group, key)};"]
        )
        lines.append(f"{wording.insert_once(self.fact.group, columns, key)};")
        return "\n".join(lines)

    def _is_given(self, column: str) -> bool:
        """Whether a column that the database could make up holds an argument of its name, or the id of a row that was there."""
        value = _told(self.fact.fields.get(column))
        if column in self.given and _told(self.given[column]) == value:
            return True
        origin = self.fact.generated.get(column)
        added, removed = (
            {
                _told(row.fields.get(name))
                for row in rows
                for name in row.identity
                if row.group == origin and row.generated.get(name) == origin
            }
            for rows in (self.reference.added, self.reference.removed)
        )
        return column not in self.fact.identity and value not in added - removed

    def _key_columns(self) -> list[str]:
        """Of the columns that are the same in each run, those that come from the job's arguments, if they will do."""
        group = self.fact.group
        stable = [
            name
            for name, value in self.fact.fields.items()
            if value is not None
            and not isinstance(value, dict | list)
            and (name not in self.fact.generated or self._is_given(name))
            and not self.makes_up(group, name)
        ]
        rows = [
            fact for fact in self.reference.added if fact.kind is FactKind.ROW and fact.group == group
        ] or [self.fact]
        if self.difference.kind is DifferenceKind.EXTRA:
            # In what tells the duplicate from the row that it repeats, no key would have met it.
            own = {name: _told(value) for name, value in self.fact.fields.items()}
            stable = max(([n for n in stable if _told(row.fields.get(n)) == own[n]] for row in rows), key=len)
        for arguments in (self.ids, self.given):
            values = {_told(one) for value in arguments.values() for one in _elements(value)}
            columns = [name for name in stable if all(_told(row.fields.get(name)) in values for row in rows)]
            entries = {tuple(_told(row.fields[name]) for name in columns) for row in rows}
            if columns and len(entries) == len(rows):
                return columns
        return stable

    def _marked(self, wording: Wording) -> str:
        column = self.difference.columns[0]
        keys = [f"{name} = :{name}" for name in self.fact.identity]
        return (
            f"{wording.marks(_MARKS, _MARK)};\n"
            f"-- in the job's transaction, first; go on only if it inserts a row; {_MARK} = {self.job_key(sure=True)}\n"
            f"{wording.insert_once(_MARKS, [_MARK], [_MARK])};\n"
            f"{wording.update(self.fact.group, {column: '...'}, keys)};"
        )

    def _moved(self, wording: Wording) -> str:
        column, table = self.difference.columns[0], self.fact.group
        keys = [f"{name} = :{name}" for name in self.fact.identity]
        version = {column: f":{column}", "version": "version + 1"}
        lines = []
        if isinstance(self.fact.fields.get(column), int | float):
            change = {column: f"{wording.name(column)} + :change"}
            lines += [
                "-- in one statement, in the transaction that marks the step as done",
                f"{wording.update(table, change, keys)};",
                "-- or, where it is computed otherwise, with a version column; no row: read again, and try again",
            ]
        else:
            lines.append("-- with a version column; no row: read again, and try again")
        lines.append(f"{wording.update(table, version, [*keys, 'version = :version'])};")
        return "\n".join(lines)

    # -- Redis -----------------------------------------------------------------------------------------------

    def key(self) -> str:
        """Claim and work in one step, as Redis runs a script as a whole."""
        mechanism = self.told.mechanism
        if mechanism is Mechanism.NEW_ID:
            asked = _key_of(self.told.guard) or str(self.fact.fields.get("key"))
            return f"{self.job_key(sure=True)}  # the same key in each run, where {asked!r} is a new one"
        if mechanism is Mechanism.LOST_UPDATE:
            return (
                f"redis.incrby({self.named(str(self.fact.fields.get('key')))}, change)"
                "  # one command, no GET before a SET"
            )
        if mechanism not in (*_MARKED, Mechanism.MISSING_CONSTRAINT):
            return ""
        command = _command(self.told.write)
        work = f"return redis.call('{command}', KEYS[2], ...)" if command else "<the job's own commands>"
        key = self.named(str(self.fact.fields.get("key")))
        return (
            f'apply = redis.register_script("{_CLAIM.format(work=work)}")\n'
            f'apply(keys=["{_MARKS}", {key}], args=[{self.job_key(sure=True)}, ...])'
        )

    def expiry(self) -> str:
        key = _key_of(self.told.guard) if _command(self.told.guard) in ("SET", "SETNX") else ""
        if not key and self.fact.kind is FactKind.KEY and self.fact.fields.get("type") == "string":
            key = str(self.fact.fields.get("key"))
        if not key:
            return ""
        return f"redis.set({self.named(key)}, token, nx=True, ex=60)  # longer than the job ever takes"

    def release(self) -> str:
        key = self.named(_key_of(self.told.guard) or "lock")
        return (
            f"token = str(uuid.uuid4())\n"
            f"redis.set({key}, token, nx=True, ex=60)\n"
            f'release = redis.register_script("{_RELEASE}")\n'
            f"release(keys=[{key}], args=[token])"
        )

    # -- transactions, files, calls --------------------------------------------------------------------------

    def one_transaction(self) -> str:
        parts = list(dict.fromkeys(part for part in self.told.parts if part))
        if self.fact.kind is FactKind.KEY:
            lines = [f"    pipeline.{part.split()[0].lower()}(...)  # {part}" for part in parts]
            lines += ["    ...  # and what comes after it"] if len(parts) < 2 else []
            head = "with redis.pipeline(transaction=True) as pipeline:  # one MULTI around both parts"
            return "\n".join([head, *lines, "    pipeline.execute()"])
        lines = [f"    connection.execute(...)  # {part}" for part in parts]
        lines += [f"    ...  # and what it writes to {self.fact.group}"] if len(parts) < 2 else []
        return "\n".join(["with engine.begin() as connection:  # one transaction around both parts", *lines])

    def file(self) -> str:
        if self.told.mechanism in (Mechanism.SWALLOWED, Mechanism.NO_EXPIRY):
            return ""
        path = str(self.fact.fields.get("path"))
        is_another = self.difference.kind is DifferenceKind.EXTRA
        name = self.job_key("-") if is_another else self.named(path)
        return (
            f"path = folder / {name}  # the same in each run\n"
            'temporary = path.with_suffix(".part")\n'
            "temporary.write_bytes(content)  # all of it, nothing appended\n"
            "os.replace(temporary, path)"
        )

    def call_outside(self) -> str:
        """By what the other side can tell a repetition."""
        if self.told.mechanism in (Mechanism.SWALLOWED, Mechanism.NO_EXPIRY):
            return ""
        key = self.job_key("-")
        missing = self.difference.kind is DifferenceKind.MISSING
        note = "  # and the mark only after it" if missing else "  # the same in each run"
        match self.fact.kind:
            case FactKind.HTTP if self.fact.store == "aws":
                return self.call_aws(key, note)
            case FactKind.HTTP:
                verb, _, place = self.fact.group.partition(" ")
                return f'{verb.lower()}("{place}", ..., headers={{"Idempotency-Key": {key}}}){note}'
            case FactKind.JOB:
                child = str(self.fact.fields.get("function", "child")).rpartition(".")[2]
                own = key[:-1].replace('"', f'"{child}-for-', 1) + '"'
                if self.fact.store == "rq":
                    return f"queue.enqueue({child}, ..., job_id={own}, unique=True){note}"
                return f"{child}.apply_async(..., task_id={own}){note}, and let {child} do each id once"
            case FactKind.MAIL:
                sender = key[:-1].replace('"', '"<', 1) + '@example.org>"'
                return f'message["Message-ID"] = {sender}{note}'
            case FactKind.CALL if "." in self.fact.group:
                return f"{self.fact.group}(..., idempotency_key={key}){note}"
        return ""

    def call_aws(self, key: str, note: str) -> str:
        """By the parameter that the service has for it; most have none."""
        service, _, operation = self.fact.group.partition(" ")[0].partition(".")
        if operation in ("SendMessage", "Publish"):
            call = "send_message" if operation == "SendMessage" else "publish"
            return f"{service}.{call}(..., MessageGroupId=..., MessageDeduplicationId={key}){note}; FIFO only"
        if operation == "StartExecution":
            return f"{service}.start_execution(..., name={key}){note}"
        return ""


# -- values, commands ----------------------------------------------------------------------------------------


def _is_plain(value: Any) -> bool:
    """Whether a value could stand in a message, and in a key."""
    return value is not None and (
        (isinstance(value, str) and len(value) <= _WORD_LENGTH_MAX and not re.search(r"\s", value))
        or isinstance(value, int)
        or type(value).__module__ in ("uuid", "datetime")
    )


def _elements(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, _PLAIN_CONTAINERS) else [value]


def _told(value: Any) -> tuple[bool, str]:
    """Equal for what a database may give back as another type: a UUID as text, but no truth as a number."""
    return isinstance(value, bool), str(value)


def _key_of(event: Event | None) -> str:
    """The key that a Redis command names first."""
    if event is None or event.effect is None or ".select" in event.effect.label:
        return ""
    words = event.effect.detail.split()
    is_script = event.effect.label.endswith((".EVAL", ".EVALSHA"))
    return words[1] if len(words) > 1 and words[0].isupper() and not is_script else ""


def _command(event: Event | None) -> str:
    """The one Redis command that an effect is; empty for several, or a statement."""
    command = event.effect.label.rpartition(".")[2] if event is not None and event.effect is not None else ""
    return command if command.isupper() and command not in _ARE_SEVERAL else ""
