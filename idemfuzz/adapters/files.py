"""A folder that a fixture hands in as a `pathlib.Path` is a Store: its files, directories and symbolic links.

Between open and close, what a delivery does below the folder are Effects: opening a file for writing (which
creates or truncates it), writing it (what is buffered lands at flush and at close), renaming, removing,
linking, making directories. A worker that is killed takes its buffers with it, and so does an Execution
here: what a dead one had not flushed never reaches the file.

Reading is no Effect, and neither is what C extensions and child processes write; their changes count, all
the same, as `changes` looks at the folder itself. Left to their own adapters, neither compared nor
restored: SQLite databases, data folders of database servers, ``__pycache__``. A copy (`shutil.copyfile`) is
the opening of its target: the system moves the content without a write.

The baseline lies in memory. If the process is killed in mid-search, the folder stays as the last trial left
it.
"""

from __future__ import annotations

import _io
import builtins
import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from idemfuzz.abc import Gate, Options, Scope, Store, Unusable
from idemfuzz.model import Access, Delta, Effect, Fact, FactKind

__all__ = ["FilesAdapter", "FilesStore"]

FILES_MAX = 2_000
BYTES_MAX = 64 * 1024 * 1024
_FACT_BYTES_MAX = 1024 * 1024
_RACY_NANOSECONDS = 2_000_000_000

_VARIABLE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?<![0-9a-z])tmp[0-9a-z_]{8}(?![0-9a-z])"
    r"|(?<![0-9a-z])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(?![0-9a-z])"
    r"|[0-9]+",
    re.IGNORECASE,
)
_DRAWN = re.compile(r"(?:tmp)?[a-z0-9_]{8}(?=[^a-z0-9_]*\.|[^a-z0-9_]*\Z)")
_SQLITE_HEADER = b"SQLite format 3\x00"
_SQLITE_NAME = re.compile(r".*(\.(db|sqlite|sqlite3|db3)|-wal|-shm|-journal)\Z", re.IGNORECASE)
_SKIPPED_DIRECTORIES = frozenset({"__pycache__"})
_SERVER_MARKS = frozenset({"PG_VERSION", "ibdata1", "appendonlydir"})

# The real ones, whoever patches them while this module is at work.
_open = io.open
_close = os.close
_dup2 = os.dup2
_os_open = os.open


class FilesAdapter:
    """Adopts existing folders of at most 2,000 files and 64 MiB."""

    name = "files"

    def adopt(self, name: str, value: object, options: Options) -> Store | None:
        """A Store for ``value``, or None if it is no folder that may be written to and put back.

        Raises:
            Unusable: the user named it in ``allow``, and yet it cannot be used.
        """
        if not isinstance(value, Path) or not value.is_dir():
            return None
        reason = refusal(value)
        if reason is None:
            return FilesStore(name, value)
        if name in options.allow:
            raise Unusable(reason)
        return None


def refusal(folder: Path) -> str | None:
    """Why ``folder`` is not to be touched, and what to do; None if it may be."""
    path = folder.resolve()
    precious = {
        "the working directory": Path.cwd().resolve(),
        "the home directory": Path.home().resolve(),
        "the directory for temporary files": Path(tempfile.gettempdir()).resolve(),
    }
    mend = "Hand in a folder that only this test uses, such as a directory below tmp_path."
    for title, known in precious.items():
        if path == known or path in known.parents:
            return f"The folder {path} is or contains {title}, so idemfuzz does not restore it. {mend}"
    if len(path.parts) < 3:
        return f"The folder {path} belongs to the system, so idemfuzz does not restore it. {mend}"
    if (path / ".git").exists():
        return f"The folder {path} is a Git repository, so idemfuzz does not restore it. {mend}"
    if not os.access(path, os.W_OK | os.X_OK):
        return f"The folder {path} cannot be written to, so idemfuzz could not restore it. {mend}"
    size = 0
    for files, each in enumerate(_walk(path), 1):
        size += each.stat.st_size if stat.S_ISREG(each.stat.st_mode) else 0
        if files > FILES_MAX or size > BYTES_MAX:
            return (
                f"The folder {path} holds more than {FILES_MAX:,} files or {BYTES_MAX // 1024**2} MiB, and "
                f"idemfuzz keeps a copy in memory. {mend}"
            )
    return None


# -- the Store -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    """One file, directory (``content`` is empty) or symbolic link (``content`` is its target).

    ``mark`` changes when the file does; None where that cannot be relied upon.
    """

    kind: int
    content: bytes
    mode: int
    modified_nanoseconds: int
    mark: tuple[int, ...] | None = None

    def same(self, other: _Entry | None) -> bool:
        return other is not None and self.kind == other.kind and self.content == other.content


class FilesStore:
    """The files below one folder."""

    kind = "files"

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.root = str(folder.resolve())
        self._given = os.path.abspath(folder)
        self._baseline: dict[str, _Entry] = {}
        self._gate: Gate | None = None
        self.drawn: set[str] = set()
        """Names that `tempfile` has drawn: each run draws others."""

    def __repr__(self) -> str:
        return f"FilesStore({self.name!r}, {self.root!r})"

    @property
    def identity(self) -> Hashable:
        return ("files", self.root)

    @property
    def gate(self) -> Gate:
        assert self._gate is not None  # Invariant: asked for only between open and close.
        return self._gate

    def open(self, gate: Gate) -> None:
        reason = refusal(Path(self.root))
        if reason is not None:
            raise Unusable(reason)
        self._baseline = self._scan({})
        self._gate = gate
        _TAPS.add(self)

    def changes(self) -> Delta:
        now, before = self._mine(self._scan(self._baseline)), self._mine(self._baseline)
        full_now, full_before = _parents(now), _parents(before)
        added: list[Fact] = []
        removed: list[Fact] = []
        for path in sorted({*now, *before}):
            old, new = before.get(path), now.get(path)
            old_fact = None if old is None or path in full_before else self._fact(path, old)
            new_fact = None if new is None or path in full_now else self._fact(path, new)
            if old_fact != new_fact:
                removed += [old_fact] if old_fact is not None else []
                added += [new_fact] if new_fact is not None else []
        return Delta(tuple(added), tuple(removed))

    def restore(self) -> None:
        now, before = self._mine(self._scan(self._baseline)), self._mine(self._baseline)
        # Longest path first, so that a directory is empty when its turn comes.
        for path in sorted(now, key=len, reverse=True):
            old = before.get(path)
            if old is None or old.kind != now[path].kind:
                self._remove(path, now.pop(path))
        for path in sorted(before, key=len):
            entry = before[path]
            there = now.get(path)
            if there is None or not entry.same(there):
                self._put_back(path, entry, anew=there is None)
            elif entry.mode != there.mode and entry.kind != stat.S_IFLNK:
                os.chmod(os.path.join(self.root, path), entry.mode)

    def perturb(self) -> bool:
        return False

    def advance(self, seconds: float) -> None:
        """Files have no clock of their own."""

    def sever(self, scope: Hashable) -> None:
        _TAPS.bury(scope)

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        _TAPS.release(scope)

    def close(self) -> None:
        if self._gate is None:
            return
        _TAPS.discard(self)
        self._gate = None
        self.restore()
        self._baseline = {}

    def relative(self, path: str) -> str | None:
        """``path`` below the folder, in ``/`` notation; None if it is elsewhere or the folder itself."""
        for root in (self.root, self._given):
            if path.startswith(root + os.sep):
                return path[len(root) + 1 :].replace(os.sep, "/")
        return None

    def _scan(self, known: Mapping[str, _Entry]) -> dict[str, _Entry]:
        """What is there now; a file that is as in ``known`` is not read again."""
        now_nanoseconds = time.time_ns()
        found: dict[str, _Entry] = {}
        for each in _walk(Path(self.root)):
            full = os.path.join(self.root, each.path)
            entry = _entry(full, each.stat, known.get(each.path), now_nanoseconds)
            if entry is not None:
                found[each.path] = entry
        return found

    def _mine(self, entries: dict[str, _Entry]) -> dict[str, _Entry]:
        """Without what another open Store looks after: a folder below that was given on its own."""
        inner = [path for path in map(self.relative, _TAPS.roots()) if path is not None]
        if not inner:
            return entries
        below = tuple(f"{path}/" for path in inner)
        above = _parents(dict.fromkeys(below))
        return {p: entry for p, entry in entries.items() if p not in above and not p.startswith(below)}

    def _fact(self, path: str, entry: _Entry) -> Fact:
        fields: dict[str, Any] = {"path": path}
        if entry.kind == stat.S_IFDIR:
            fields["path"] = path + "/"
        elif entry.kind == stat.S_IFLNK:
            fields["target"] = os.fsdecode(entry.content)
        else:
            fields["content"] = _readable(entry.content)
        return Fact(self.name, FactKind.FILE, _pattern(path), fields, identity=("path",))

    def _remove(self, path: str, entry: _Entry) -> None:
        full = os.path.join(self.root, path)
        try:
            os.rmdir(full) if entry.kind == stat.S_IFDIR else os.unlink(full)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise

    def _put_back(self, path: str, entry: _Entry, *, anew: bool) -> None:
        full = os.path.join(self.root, path)
        if entry.kind == stat.S_IFDIR:
            os.makedirs(full, exist_ok=True)
            os.chmod(full, entry.mode)
            return
        if entry.kind == stat.S_IFLNK:
            if not anew:
                os.unlink(full)
            os.symlink(os.fsdecode(entry.content), full)
            return
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if not anew:
            os.chmod(full, entry.mode | stat.S_IWUSR)
        # In place, so that whoever has the file open goes on with the same one.
        with _open(full, "wb") as file:
            file.write(entry.content)
        os.chmod(full, entry.mode)
        os.utime(full, ns=(entry.modified_nanoseconds, entry.modified_nanoseconds))
        # From here on times tell nothing about this file: a trial may change it within one tick of the clock.
        self._baseline[path] = replace(entry, mark=None)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    stat: os.stat_result


def _walk(root: Path) -> Iterator[_Found]:
    """Everything below ``root`` that is ours to look after, relative paths in ``/`` notation."""
    waiting: list[_Found | None] = [None]
    while waiting:
        directory = waiting.pop()
        below = "" if directory is None else directory.path
        try:
            with os.scandir(os.path.join(root, below)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if directory is not None:
            if _SERVER_MARKS.intersection(entry.name for entry in entries):
                continue
            yield directory
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found = _Found(f"{below}/{entry.name}" if below else entry.name, status)
            if stat.S_ISDIR(status.st_mode):
                if entry.name not in _SKIPPED_DIRECTORIES:
                    waiting.append(found)
            elif stat.S_ISLNK(status.st_mode) or (
                # Sockets, pipes and devices hold nothing that could be put back.
                stat.S_ISREG(status.st_mode) and not _is_sqlite(entry.path, status.st_size)
            ):
                yield found


def _is_sqlite(path: str, size: int) -> bool:
    """Whether this is a database (the SQL adapter's, if anybody's) or a companion of one."""
    if _SQLITE_NAME.match(path):
        database = re.sub(r"-(wal|shm|journal)\Z", "", path)
        return database != path or size == 0 or _head(path) == _SQLITE_HEADER
    return size >= 512 and size % 512 == 0 and _head(path) == _SQLITE_HEADER


def _head(path: str) -> bytes:
    try:
        with _open(path, "rb") as file:
            return file.read(len(_SQLITE_HEADER))
    except OSError:
        return b""


def _entry(path: str, status: os.stat_result, known: _Entry | None, now_nanoseconds: int) -> _Entry | None:
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    modified = status.st_mtime_ns
    if kind == stat.S_IFDIR:
        return _Entry(kind, b"", mode, modified)
    mark = (status.st_ino, status.st_size, modified, status.st_ctime_ns)
    if known is not None and known.kind == kind and known.mark == mark:
        return known
    try:
        content = os.fsencode(os.readlink(path)) if kind == stat.S_IFLNK else _content(path, status.st_size)
    except FileNotFoundError:
        return None
    racy = now_nanoseconds - status.st_ctime_ns < _RACY_NANOSECONDS
    return _Entry(kind, content, mode, modified, None if racy else mark)


def _content(path: str, size: int) -> bytes:
    with _open(path, "rb") as file:
        if size <= BYTES_MAX:
            return file.read()
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"<{size} bytes, sha256 {digest}>".encode()


def _readable(content: bytes) -> str | bytes:
    if len(content) > _FACT_BYTES_MAX:
        return f"<{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}>"
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _parents(paths: Mapping[str, object]) -> set[str]:
    """The directories that are not empty; their contents speak for them."""
    return {path[: slash.start()] for path in paths for slash in re.finditer("/", path)}


def _pattern(path: str) -> str:
    return re.sub(r"\*(?:[-_.:T]?\*)+", "*", _VARIABLE.sub("*", path))


# -- what a delivery does below a folder ---------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Handle:
    """A file that an Execution has open for writing; ``scope`` is None and ``dead`` tells how once it ended."""

    store: FilesStore
    path: str
    scope: Hashable | None
    dead: bool = False

    def land(self, act: Callable[[], Any], detail: str) -> Any:
        """Do ``act``, which brings content into the file, as an Effect of the Execution that opened it.

        Elsewhere (closed by the garbage collector on another thread, inside a larger Effect) it is a plain
        call. For a dead Execution it leads nowhere in any case, see `_Taps.bury`.
        """
        gate = self.store._gate
        here = gate.scope() if gate is not None else None
        if gate is None or here is None or self.scope is None or here.key != self.scope:
            return act()
        return gate.perform(_effect(self.store, "write", self.path, detail), act)


def _sink(descriptor: int) -> None:
    """Let everything that is still written there go nowhere; frees the file's locks, too, as a death does."""
    nowhere = _os_open(os.devnull, os.O_RDWR)
    try:
        _dup2(nowhere, descriptor, inheritable=False)
    finally:
        _close(nowhere)


class _Landing:
    """What the file objects of a delivery do differently: what brings content into the file passes the gate.

    Without pending content, flush and close do nothing that could be observed, and are no Effects.
    """

    _handle: _Handle | None = None
    _pending = False

    def write(self, data: Any, /) -> Any:
        self._pending = True
        return super().write(data)  # type: ignore[misc]

    def flush(self) -> None:
        self._land("flush", super().flush)  # type: ignore[misc]
        self._pending = False

    def truncate(self, pos: int | None = None, /) -> Any:
        self._pending = True
        return self._land("truncate", functools.partial(super().truncate, pos))  # type: ignore[misc]

    def close(self) -> None:
        file: Any = super()
        try:
            self._land("close", file.close)
        except BaseException:
            if self._handle is not None and self._handle.dead:
                # What is buffered goes nowhere by now.
                self._handle = None
                file.close()
            raise

    def __del__(self) -> None:
        # What the gate raises here ends nobody's code, and would only be reported as an accident.
        with contextlib.suppress(BaseException):
            self.close()

    def _land(self, verb: str, act: Callable[[], Any]) -> Any:
        file: Any = self
        handle = self._handle
        if handle is None or not self._pending or file.closed:
            return act()
        return handle.land(act, f"{verb} {handle.path}")


class _Text(_Landing, io.TextIOWrapper):
    @property
    def buffer(self) -> Any:
        """Whoever asks for it may write past us."""
        self._pending = True
        return super().buffer


class _Writer(_Landing, io.BufferedWriter):
    pass


class _Random(_Landing, io.BufferedRandom):
    pass


class _Raw(_Landing, io.FileIO):
    """Unbuffered: every write lands."""

    def write(self, data: Any, /) -> Any:
        self._pending = True
        try:
            return self._land("write", functools.partial(io.FileIO.write, self, data))
        finally:
            self._pending = False


class _Door:
    """Stands in for a function of the standard library; like a built-in, it does not turn into a method."""

    def __init__(self, original: Callable[..., Any], handler: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._original = original
        self._handler = handler

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handler(self._original, *args, **kwargs)

    # Equal to the original, so that it is found in `os.supports_dir_fd` and the like.
    def __eq__(self, other: object) -> bool:
        return other is self or other == self._original

    def __hash__(self) -> int:
        return hash(self._original)


class _Taps:
    """Patches the standard library once for all open stores, and routes by the longest prefix."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stores: tuple[FilesStore, ...] = ()
        self._patches: list[tuple[Any, str, Any, _Door]] = []
        self._files: weakref.WeakKeyDictionary[Any, _Handle] = weakref.WeakKeyDictionary()
        self._descriptors: dict[int, tuple[_Handle, tuple[int, int]]] = {}

    def add(self, store: FilesStore) -> None:
        with self._lock:
            # Longest root first: a folder in a folder gets what is below it.
            self._stores = tuple(sorted((*self._stores, store), key=lambda each: -len(each.root)))
            if not self._patches:
                self._patch()

    def discard(self, store: FilesStore) -> None:
        with self._lock:
            self._stores = tuple(each for each in self._stores if each is not store)
            if self._stores:
                return
            while self._patches:
                owner, name, original, door = self._patches.pop()
                if getattr(owner, name) is door:
                    setattr(owner, name, original)
            self._descriptors.clear()

    def roots(self) -> list[str]:
        return [store.root for store in self._stores]

    def bury(self, scope: Hashable) -> None:
        """The Execution is dead: what it still has open writes to nowhere."""
        for file, handle in list(self._files.items()):
            if handle.scope == scope:
                handle.dead = True
                if not file.closed:
                    _sink(file.fileno())
        for descriptor in [d for d, (handle, _) in self._descriptors.items() if handle.scope == scope]:
            if self._known(descriptor) is not None:
                _sink(descriptor)
            self._descriptors.pop(descriptor, None)

    def release(self, scope: Hashable) -> None:
        """The Execution has ended: what it left open is nobody's Effect any more, and a dead one's is closed."""
        for file, handle in list(self._files.items()):
            if handle.scope == scope:
                handle.scope = None
                if handle.dead:
                    file.close()
        for descriptor in [d for d, (handle, _) in self._descriptors.items() if handle.scope == scope]:
            del self._descriptors[descriptor]

    def _patch(self) -> None:
        doors: list[tuple[Any, str, Callable[..., Any]]] = [
            # `tempfile` uses `_io.open`, `pathlib` uses `io.open`.
            *((owner, "open", self._file) for owner in (builtins, io, _io)),
            (os, "open", self._descriptor),
            (os, "write", self._write),
            (os, "truncate", self._truncate),
            *((os, name, self._one) for name in ("remove", "unlink", "mkdir", "rmdir")),
            *((os, name, self._two) for name in ("rename", "replace", "link", "symlink")),
            (shutil, "rmtree", self._one),
        ]
        for owner, name, handler in doors:
            original = getattr(owner, name)
            door = _Door(original, handler)
            self._patches.append((owner, name, original, door))
            setattr(owner, name, door)

    def _scope(self) -> Scope | None:
        stores = self._stores
        return stores[0].gate.scope() if stores else None

    def _route(self, path: Any) -> tuple[FilesStore, str] | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        full = os.path.abspath(os.fsdecode(path))
        stores = self._stores
        folder, base = os.path.split(full)
        for candidate in (full, os.path.join(os.path.realpath(folder), base)):
            for store in stores:
                relative = store.relative(candidate)
                if relative is not None:
                    return store, relative
        return None

    def _known(self, descriptor: int) -> _Handle | None:
        """The handle behind a descriptor; its number may have been reused since."""
        entry = self._descriptors.get(descriptor)
        if entry is None:
            return None
        try:
            status = os.fstat(descriptor)
        except OSError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != entry[1]:
            self._descriptors.pop(descriptor, None)
            return None
        return entry[0]

    # -- the doors: each gets the real function first ------------------------------------------------------

    def _file(self, real: Callable[..., Any], file: Any, mode: Any = "r", *args: Any, **kwargs: Any) -> Any:
        scope = self._scope()
        if scope is None or not isinstance(mode, str) or not set("wax+") & set(mode):
            return real(file, mode, *args, **kwargs)
        routed = self._route(file)
        if routed is not None and not os.path.isdir(file):
            handle = _Handle(*routed, scope.key)
            opened = functools.partial(self._opened, real, handle, file, mode, *args, **kwargs)
            # "r+" changes nothing yet.
            access = Access.DURABLE if set("wax") & set(mode) else Access.READ
            effect = _effect(handle.store, "open", handle.path, f"open {handle.path} ({mode})", access)
            return self._given(handle.store.gate, effect, opened, lambda file: file.close())
        return self._opened(real, None, file, mode, *args, **kwargs)

    def _opened(
        self,
        real: Callable[..., Any],
        handle: _Handle | None,
        file: Any,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        """A file object whose content passes the gate when it lands; the real one outside of our folders."""
        plain = real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if handle is None:
            # A number, or a temporary file whose opener has come through `os.open`.
            handle = self._known(plain.fileno())
            if handle is None:
                return plain
        landing: Any
        if isinstance(plain, io.TextIOWrapper):
            settings = (plain.encoding, plain.errors, newline, plain.line_buffering)
            landing = _Text(plain.detach(), *settings)
            landing.mode = mode
        elif isinstance(plain, io.BufferedRandom):
            landing = _Random(plain.detach(), *((buffering,) if buffering > 1 else ()))
        elif isinstance(plain, io.BufferedWriter):
            landing = _Writer(plain.detach(), *((buffering,) if buffering > 1 else ()))
        elif isinstance(plain, io.FileIO):
            # Not opened anew: a second "x" would fail. The real object gives its descriptor away.
            landing = _Raw(os.dup(plain.fileno()), plain.mode.replace("b", "").replace("x", "w"))
            landing.name = plain.name
            plain.close()
        else:
            return plain
        landing._handle = handle
        self._files[landing] = handle
        return landing

    def _descriptor(
        self, real: Callable[..., int], path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        scope = self._scope()
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        routed = self._route(path) if scope is not None and writes and dir_fd is None else None
        if scope is None or routed is None or os.path.isdir(path):
            return real(path, flags, mode, dir_fd=dir_fd)
        handle = _Handle(*routed, scope.key)
        if any(sys._getframe(depth).f_globals.get("__name__") == "tempfile" for depth in (1, 2, 3)):
            handle.store.drawn.add(os.path.basename(handle.path))

        def opened() -> int:
            descriptor = real(path, flags, mode)
            status = os.fstat(descriptor)
            self._descriptors[descriptor] = (handle, (status.st_dev, status.st_ino))
            return descriptor

        access = Access.DURABLE if flags & (os.O_CREAT | os.O_TRUNC) else Access.READ
        effect = _effect(handle.store, "open", handle.path, f"open {handle.path}", access)
        return int(self._given(handle.store.gate, effect, opened, _close))

    @staticmethod
    def _given(gate: Gate, effect: Effect, opened: Callable[[], Any], close: Callable[[Any], object]) -> Any:
        """What ``opened`` returns; closed again where a fault keeps it from whoever asked for it."""
        made: list[Any] = []

        def open_and_keep() -> Any:
            made.append(opened())
            return made[-1]

        try:
            return gate.perform(effect, open_and_keep)
        except BaseException:
            for each in made:
                close(each)
            raise

    def _write(self, real: Callable[..., int], descriptor: int, data: Any) -> int:
        handle = self._known(descriptor) if self._descriptors else None
        if handle is None:
            return real(descriptor, data)
        return int(handle.land(functools.partial(real, descriptor, data), f"write {handle.path}"))

    def _truncate(self, real: Callable[..., Any], path: Any, length: int) -> Any:
        return self._act(real, path, path, length)

    def _one(self, real: Callable[..., Any], path: Any, *args: Any, **kwargs: Any) -> Any:
        return self._act(real, path, path, *args, **kwargs)

    def _two(self, real: Callable[..., Any], src: Any, dst: Any, *args: Any, **kwargs: Any) -> Any:
        return self._act(real, dst, src, dst, *args, **kwargs)

    def _act(self, real: Callable[..., Any], changed: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(real, *args, **kwargs)
        names = ("dir_fd", "src_dir_fd", "dst_dir_fd")
        if self._scope() is None or any(kwargs.get(name) is not None for name in names):
            return call()
        routed = self._route(changed) or self._route(args[0])
        if routed is None:
            return call()
        store, path = routed
        verb = {"unlink": "remove", "replace": "rename", "rmtree": "remove"}.get(real.__name__, real.__name__)
        detail = f"{verb} {path}"
        if changed is not args[0]:
            source = self._route(args[0])
            detail = f"{verb} {args[0] if source is None else source[1]} to {path}"
        return store.gate.perform(_effect(store, verb, path, detail), call)


def _effect(store: FilesStore, verb: str, path: str, detail: str, access: Access = Access.DURABLE) -> Effect:
    folder, name = os.path.split(path)
    # `tempfile` draws eight characters, which may well be a word.
    known = os.path.join(folder, _DRAWN.sub("*", name)) if name in store.drawn else path
    return Effect(
        label=f"{store.name}.{verb}.{_pattern(known)}", store=store.name, access=access, detail=detail
    )


_TAPS = _Taps()
