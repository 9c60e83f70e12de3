"""The files below one folder as a Store."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from idemfuzz.abc import Gate, Unusable
from idemfuzz.adapters.files.doors import TAPS
from idemfuzz.adapters.files.folder import Entry, entry_of, parents, pattern, refusal, walk
from idemfuzz.model import Delta, Fact, FactKind

_FACT_BYTES_MAX = 1024 * 1024

# The real one, whoever patches it while this module is at work.
_open = io.open


class FilesStore:
    """The files below one folder."""

    kind = "files"

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.root = str(folder.resolve())
        self._given = os.path.abspath(folder)
        self._baseline: dict[str, Entry] = {}
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
        TAPS.add(self)

    def changes(self) -> Delta:
        now, before = self._mine(self._scan(self._baseline)), self._mine(self._baseline)
        full_now, full_before = parents(now), parents(before)
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
        TAPS.bury(scope)

    def settle(self, scope: Hashable, *, failed: bool) -> None:
        TAPS.release(scope)

    def close(self) -> None:
        if self._gate is None:
            return
        TAPS.discard(self)
        self._gate = None
        self.restore()
        self._baseline = {}

    def relative(self, path: str) -> str | None:
        """``path`` below the folder, in ``/`` notation; None if it is elsewhere or the folder itself."""
        for root in (self.root, self._given):
            if path.startswith(root + os.sep):
                return path[len(root) + 1 :].replace(os.sep, "/")
        return None

    def _scan(self, known: Mapping[str, Entry]) -> dict[str, Entry]:
        """What is there now; a file that is as in ``known`` is not read again."""
        now_nanoseconds = time.time_ns()
        found: dict[str, Entry] = {}
        for each in walk(Path(self.root)):
            full = os.path.join(self.root, each.path)
            entry = entry_of(full, each.stat, known.get(each.path), now_nanoseconds)
            if entry is not None:
                found[each.path] = entry
        return found

    def _mine(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """Without what another open Store looks after: a folder below that was given on its own."""
        inner = [path for path in map(self.relative, TAPS.roots()) if path is not None]
        if not inner:
            return entries
        below = tuple(f"{path}/" for path in inner)
        above = parents(dict.fromkeys(below))
        return {p: entry for p, entry in entries.items() if p not in above and not p.startswith(below)}

    def _fact(self, path: str, entry: Entry) -> Fact:
        fields: dict[str, Any] = {"path": path}
        if entry.kind == stat.S_IFDIR:
            fields["path"] = path + "/"
        elif entry.kind == stat.S_IFLNK:
            fields["target"] = os.fsdecode(entry.content)
        else:
            fields["content"] = _readable(entry.content)
        return Fact(self.name, FactKind.FILE, pattern(path), fields, identity=("path",))

    def _remove(self, path: str, entry: Entry) -> None:
        full = os.path.join(self.root, path)
        try:
            os.rmdir(full) if entry.kind == stat.S_IFDIR else os.unlink(full)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise

    def _put_back(self, path: str, entry: Entry, *, anew: bool) -> None:
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


def _readable(content: bytes) -> str | bytes:
    if len(content) > _FACT_BYTES_MAX:
        return f"<{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}>"
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
