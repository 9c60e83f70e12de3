"""A database that was given by its URL: may it be written to, and does it answer?"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from idemfuzz import permission
from idemfuzz.abc import Unusable

__all__ = ["check_given", "check_permission"]

_EXPECTED = "expected a SQLAlchemy URL such as postgresql+psycopg://USER@HOST/NAME, sqlite (a file of the run's own) or none"


def check_permission(url: URL, *, called: str, allow: Iterable[str]) -> None:
    """A file is the user's own doing; a server's database must be allowed.

    Raises:
        Unusable: it may not be written to.
    """
    if url.get_backend_name() != "sqlite":
        shown = url.render_as_string(hide_password=True)
        permission.check_database(url.database or "", host=url.host, shown=shown, called=called, allow=allow)


def check_given(text: str, *, called: str, allow: Iterable[str]) -> None:
    """Refuse before anything starts what could only fail later.

    Raises:
        Unusable: the text is no URL, its driver is not there, the database may not be written to, or it does not answer.
    """
    try:
        url = make_url(text)
        shown = url.render_as_string(hide_password=True)
        backend = url.get_backend_name()
        check_permission(url, called=called, allow=allow)
        if backend == "sqlite" and url.database in (None, "", ":memory:"):
            raise Unusable(
                f"{called} {shown} is a database in memory, of which each process has one of its own; use {called} sqlite for a file"
            )
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise Unusable(f"{called} {text.rpartition('@')[2]!r} is not usable; {_EXPECTED}") from error
    except ImportError as error:
        raise Unusable(
            f"{called} {shown} needs a driver that is not installed: {error}. Install it, or name another, as in {backend}+DRIVER://"
        ) from error
    try:
        with engine.connect():
            pass
    except (SQLAlchemyError, OSError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
        raise Unusable(
            f"{called} {shown} does not answer: {why}. Start it, or leave {called} out for a database of the run's own"
        ) from error
    finally:
        engine.dispose()
