"""Which modules can be imported by their name: those of the current folder, too, here and in the processes started from here.

As with `python -m`: what a name means does not depend on how one was started.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

__all__ = ["for_children", "include", "include_here", "is_findable", "name_of"]


def include_here() -> None:
    """From now on modules of the current folder can be imported."""
    if "" not in sys.path:
        include(Path.cwd())


def include(folder: Path) -> None:
    """From now on modules of ``folder`` can be imported, before those of the same name elsewhere."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def for_children() -> str:
    """The PYTHONPATH with which a new process finds what this one does, from whatever folder."""
    return os.pathsep.join(dict.fromkeys(os.path.abspath(part) for part in sys.path))


def is_findable(name: str) -> bool:
    """Whether there is such a module, without importing it; packages around it are imported.

    Raises:
        ImportError: a package around it cannot be imported.
    """
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        # A package around it is missing; what such a package itself misses is its own error.
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return False
        raise
    except (ValueError, AttributeError):
        # No name at all, or a loaded module that says nothing of where it is from.
        return name in sys.modules


def name_of(file: Path) -> str:
    """The name by which a worker imports a file, with the packages that it is in; it can be imported from now on."""
    parts = [file.stem] if file.stem != "__init__" else []
    folder = file.resolve().parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    include(folder)
    return ".".join(parts)
