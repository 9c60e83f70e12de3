"""CreateUserJob: a visitor becomes a user.

Not idempotent: the INSERT. Nothing in it says that this is the same visitor as a moment ago.

Strategy: a unique constraint on `users.email`. The database is the one place that both executions
must pass, so it is the one place where "already there" can be decided. No Redis key is needed.

Test notes: two in sequence and two at once are both enough to see the naive job fail. The mended
one holds, whatever you do to the delivery; see its docstring for what it hides instead.
"""

from __future__ import annotations

import logging

from sqlalchemy.exc import IntegrityError

from shop.context import current_shop
from shop.insert_once import insert_once
from shop.models import User

log = logging.getLogger(__name__)


def create_user_naive(email: str, name: str) -> None:
    """A second delivery makes a second Ada."""
    with current_shop().session() as session:
        session.add(User(email=email, name=name))
        session.commit()


def create_user_mended(email: str, name: str) -> None:
    """With `UNIQUE (email)`, the second INSERT is refused and the refusal is taken for success.

    This holds. Its one weakness has nothing to do with duplicates: IntegrityError is the error of
    *every* constraint, so a missing name, too, ends in a line of log and no user.
    """
    with current_shop().session() as session:
        session.add(User(email=email, name=name))
        try:
            session.commit()
        except IntegrityError:
            log.warning("There is a user with the address %s already", email)


def create_user_right(email: str, name: str) -> None:
    """The INSERT itself says which collision is harmless; every other violation stays an error.

    The address is brought to one form first: a unique key protects what it can recognise.
    """
    with current_shop().session() as session:
        insert_once(session, User, key=("email",), email=email.strip().lower(), name=name)
        session.commit()
