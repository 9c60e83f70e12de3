"""Hypothesis' example databases from texts, so that one line of configuration shares them.

``directory:PATH``, ``redis://...``, ``github:OWNER/REPOSITORY`` (the artifact of its workflows, which is read only), each with
``read-only:`` before it where it may only be read; several are asked one after the other, and each is written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from idemfuzz.abc import Unusable
from idemfuzz.reporting.redaction import redact

if TYPE_CHECKING:
    from hypothesis.database import ExampleDatabase

__all__ = ["example_database"]


def example_database(texts: Sequence[str], root: Path) -> ExampleDatabase | None:
    """The database that the texts name, or None where there are none.

    Raises:
        Unusable: a text is not usable, or what it needs is not installed.
    """
    if not texts:
        return None
    try:
        from hypothesis.database import MultiplexedDatabase
    except ImportError as error:
        raise Unusable("example_databases needs Hypothesis: pip install 'idemfuzz[hypothesis]'") from error
    found = [_one(text, root) for text in texts]
    return found[0] if len(found) == 1 else MultiplexedDatabase(*found)


def _one(text: str, root: Path) -> ExampleDatabase:
    from hypothesis.database import DirectoryBasedExampleDatabase, GitHubArtifactDatabase, ReadOnlyDatabase

    kind, _, rest = text.partition(":")
    try:
        if kind == "read-only" and rest:
            return ReadOnlyDatabase(_one(rest, root))
        if kind == "directory" and rest:
            return DirectoryBasedExampleDatabase(root / rest)
        if kind in ("redis", "rediss", "unix"):
            from idemfuzz.adapters.redis.example_database import redis_example_database

            return redis_example_database(text)
        if kind == "github" and rest.count("/") == 1:
            owner, repository = rest.split("/")
            return ReadOnlyDatabase(
                GitHubArtifactDatabase(owner, repository, path=root / ".hypothesis" / "github")
            )
    except ImportError as error:
        raise Unusable(
            f"the example database {redact(text)!r} needs {error.name}, which is not installed"
        ) from error
    except ValueError as error:
        raise Unusable(
            f"the example database {redact(text)!r} is not usable: {redact(str(error))}"
        ) from error
    raise Unusable(
        f"the example database {redact(text)!r} is not usable; expected directory:PATH, redis://HOST/0, github:OWNER/REPOSITORY, or "
        "one of these behind read-only:"
    )
