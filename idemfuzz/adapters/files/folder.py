"""What lies below a folder, and whether a search may put it back."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from idemfuzz.adapters.tokens import without_tokens

FILES_MAX = 2_000
BYTES_MAX = 64 * 1024 * 1024
_RACY_NANOSECONDS = 2_000_000_000
_VARIABLE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?<![0-9a-z])tmp[0-9a-z_]{8}(?![0-9a-z])"
    r"|(?<![0-9a-z])(?=[0-9a-f]*[0-9])[0-9a-f]{8,}(?![0-9a-z])"
    r"|[0-9]+",
    re.IGNORECASE,
)
_SQLITE_HEADER = b"SQLite format 3\x00"
_SQLITE_NAME = re.compile(r".*(\.(db|sqlite|sqlite3|db3)|-wal|-shm|-journal)\Z", re.IGNORECASE)
_SKIPPED_DIRECTORIES = frozenset({"__pycache__"})
_SERVER_MARKS = frozenset({"PG_VERSION", "ibdata1", "appendonlydir"})

# The real one, whoever patches it while this module is at work.
_open = io.open


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory (``content`` is empty) or symbolic link (``content`` is its target).

    ``mark`` changes when the file does; None where that cannot be relied upon.
    """

    kind: int
    content: bytes
    mode: int
    modified_nanoseconds: int
    mark: tuple[int, ...] | None = None

    def same(self, other: Entry | None) -> bool:
        return other is not None and self.kind == other.kind and self.content == other.content


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
    for files, each in enumerate(walk(path), 1):
        size += each.stat.st_size if stat.S_ISREG(each.stat.st_mode) else 0
        if files > FILES_MAX or size > BYTES_MAX:
            return (
                f"The folder {path} holds more than {FILES_MAX:,} files or {BYTES_MAX // 1024**2} MiB, and "
                f"idemfuzz keeps a copy in memory. {mend}"
            )
    return None


@dataclass(frozen=True, slots=True)
class Found:
    path: str
    stat: os.stat_result


def walk(root: Path) -> Iterator[Found]:
    """Everything below ``root`` that is ours to look after, relative paths in ``/`` notation."""
    waiting: list[Found | None] = [None]
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
            found = Found(f"{below}/{entry.name}" if below else entry.name, status)
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


def entry_of(path: str, status: os.stat_result, known: Entry | None, now_nanoseconds: int) -> Entry | None:
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    modified = status.st_mtime_ns
    if kind == stat.S_IFDIR:
        return Entry(kind, b"", mode, modified)
    mark = (status.st_ino, status.st_size, modified, status.st_ctime_ns)
    if known is not None and known.kind == kind and known.mark == mark:
        return known
    try:
        content = os.fsencode(os.readlink(path)) if kind == stat.S_IFLNK else _content(path, status.st_size)
    except FileNotFoundError:
        return None
    racy = now_nanoseconds - status.st_ctime_ns < _RACY_NANOSECONDS
    return Entry(kind, content, mode, modified, None if racy else mark)


def _content(path: str, size: int) -> bytes:
    with _open(path, "rb") as file:
        if size <= BYTES_MAX:
            return file.read()
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"<{size} bytes, sha256 {digest}>".encode()


def parents(paths: Mapping[str, object]) -> set[str]:
    """The directories that are not empty; their contents speak for them."""
    return {path[: slash.start()] for path in paths for slash in re.finditer("/", path)}


def pattern(path: str) -> str:
    return re.sub(r"\*(?:[-_.:T]?\*)+", "*", _VARIABLE.sub("*", without_tokens(path)))
