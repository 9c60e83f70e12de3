"""Who searches a store outside of this process: one search at a time, and one that was killed is noticed by the next.

A claim is a locked file in the folder for temporary files; the system gives the lock up when its process ends, in
whatever way. The file says who and since when, and is gone after a search that came to its end.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from idemfuzz.abc import Store, Unusable

__all__ = ["Claims"]

_WAIT_SECONDS_MAX = 1_800.0
_POLL_SECONDS = 0.02
_now, _real_sleep = time.monotonic, time.sleep
_held: set[Path] = set()
"""By this process: a search within a search does not wait for itself."""


class Claims:
    """One search's claims to its stores."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}

    def take(self, stores: Iterable[Store], *, wait_seconds_max: float | None = None) -> None:
        """Wait until nobody else searches them; in one order for everybody, so that no two wait for each other.

        A store that lives in this process is nobody else's.

        Raises:
            Unusable: another process searches one of them for longer than half an hour, or what was given.
        """
        self.take_places(
            {
                place: store.name
                for store in stores
                if (place := getattr(store, "place", None)) is not None
                and not getattr(store, "in_process", False)
            },
            wait_seconds_max=wait_seconds_max,
        )

    def take_places(self, names: Mapping[str, str], *, wait_seconds_max: float | None = None) -> None:
        """The same for places that nobody has opened as stores; ``names`` says what each is called."""
        for path, name in sorted((_path_of(place), name) for place, name in names.items()):
            if path not in _held:
                self._take(path, name, wait_seconds_max)

    def give_up(self) -> None:
        """The stores are as they were."""
        while self._files:
            path, file = self._files.popitem()
            _held.discard(path)
            path.unlink(missing_ok=True)
            os.close(file)

    def _take(self, path: Path, name: str, wait_seconds_max: float | None) -> None:
        deadline = _now() + (_WAIT_SECONDS_MAX if wait_seconds_max is None else wait_seconds_max)
        while (file := _locked(path)) is None:
            if _now() > deadline:
                raise Unusable(
                    f"{name!r} is in use by another search or stress run ({_told(path)}), for longer than this one waits: each would take "
                    "the other's changes for those of its own job. Give each process a database of its own; under "
                    "pytest-xdist, put the worker_id into its name"
                )
            _real_sleep(_POLL_SECONDS)
        told = os.pread(file, 200, 0).decode(errors="replace")
        if told:
            warnings.warn(
                f"a search or stress run of {name!r} was killed ({told}): what it had written last is still there, unless the "
                "database was made anew since. Make it anew if this one looks odd",
                stacklevel=2,
            )
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()}, since {datetime.now():%Y-%m-%d %H:%M:%S}".encode(), 0)
        self._files[path] = file
        _held.add(path)


def _path_of(place: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"idemfuzz-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.searched"


def _locked(path: Path) -> int | None:
    """The open file, if nobody else has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between our two looks, another search may have given its claim up, and the file with it.
        if os.path.samestat(os.fstat(file), os.stat(path)):
            return file
    except OSError:
        pass
    os.close(file)
    return None


def _told(path: Path) -> str:
    try:
        return path.read_text(errors="replace") or "which has just begun"
    except OSError:
        return "which has just ended"
