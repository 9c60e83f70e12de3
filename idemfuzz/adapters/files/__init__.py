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

    store      the Store
    folder     what lies below it
    doors      where a delivery's calls come in
    landing    what it holds open
"""

from __future__ import annotations

from pathlib import Path

from idemfuzz.abc import Options, Store, Unusable
from idemfuzz.adapters.files.folder import refusal
from idemfuzz.adapters.files.store import FilesStore

__all__ = ["FilesAdapter", "FilesStore", "refusal"]


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
