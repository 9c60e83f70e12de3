"""Folders of a process's own among the temporary ones, which the next process clears away if this one is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["base", "hold", "scratch", "sweep"]

_SOCKET_BASE_LENGTH_MAX = 50
_STALE_SECONDS_MIN = 60.0


def base() -> Path:
    """Return the folder for private directories: a unix socket's path has room for about 100 characters."""
    base = Path(tempfile.gettempdir())
    return base if len(str(base)) <= _SOCKET_BASE_LENGTH_MAX else Path("/tmp")


@contextmanager
def scratch(prefix: str, among: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, and remove it afterwards; those of this prefix that a killed process has left go first.

    Args:
        among: where it lies, and where such ones are looked for; `base` by default.
    """
    among = base() if among is None else among
    sweep(prefix, among)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=among))
    lock = hold(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def hold(home: Path) -> int:
    """Say that a directory is in use, for as long as the file that is returned is open in some process."""
    # Invariant: a directory whose lock is free belongs to nobody that lives; see sweep.
    lock = os.open(home / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def sweep(prefix: str, among: Path | None = None) -> None:
    """Remove the directories whose names begin so, and that killed processes have left."""
    for home in (base() if among is None else among).glob(prefix + "*"):
        with suppress(OSError):
            facts = home.lstat()
            if facts.st_uid != os.geteuid() or not home.is_dir() or home.is_symlink():
                continue
            try:
                lock = os.open(home / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                # Perhaps just being made: an old one without a lock was never finished.
                if time.time() - facts.st_mtime > _STALE_SECONDS_MIN:
                    shutil.rmtree(home, ignore_errors=True)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A file this young may be about to be locked by its maker.
                if os.fstat(lock).st_mtime < time.time() - 1.0:
                    shutil.rmtree(home, ignore_errors=True)
            finally:
                os.close(lock)
