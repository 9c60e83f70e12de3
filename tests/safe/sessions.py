"""Jobs that use SQLAlchemy in the ways that applications do."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine, ForeignKey, String, UniqueConstraint, func, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)


class Base(DeclarativeBase):
    pass


class Batch(Base):
    __tablename__ = "batches"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40), unique=True)
    items: Mapped[list[Item]] = relationship(back_populates="batch", order_by="Item.position")


class Item(Base):
    __tablename__ = "batch_items"
    __table_args__ = (UniqueConstraint("batch_id", "position"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batches.id"))
    position: Mapped[int]
    label: Mapped[str] = mapped_column(String(40))
    batch: Mapped[Batch] = relationship(back_populates="items")


def _batch(name: str, labels: list[str]) -> Batch:
    return Batch(name=name, items=[Item(position=i, label=label) for i, label in enumerate(labels)])


Sessions = sessionmaker()
Scoped = scoped_session(sessionmaker())


def bind_sessions(world: Any) -> None:
    """As an application's start-up does."""
    Sessions.configure(bind=world.db)
    Scoped.remove()
    Scoped.configure(bind=world.db)
    world.extra["sessions"] = Sessions
    world.extra["scoped"] = Scoped


def store_batch(name: str, labels: list[str]) -> None:
    """A session per job, from the application's own maker."""
    try:
        with Sessions.begin() as session:
            session.add(_batch(name, labels))
    except IntegrityError:
        pass


def store_batch_scoped(name: str, labels: list[str]) -> None:
    """A session per thread, removed at the end of the job."""
    try:
        Scoped.add(_batch(name, labels))
        Scoped.commit()
    except IntegrityError:
        Scoped.rollback()
    finally:
        Scoped.remove()


def hand_in_session(world: Any) -> None:
    world.extra["session"] = Session(world.db)


def store_batch_with(session: Session, name: str, labels: list[str]) -> int:
    """The caller's session, as a web application and its tests hand it in."""
    batch = session.scalar(select(Batch).where(Batch.name == name))
    if batch is None:
        batch = _batch(name, labels)
        session.add(batch)
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
            batch = session.scalars(select(Batch).where(Batch.name == name)).one()
    return len(batch.items)


def store_batch_with_core(db: Engine, name: str, labels: list[str]) -> None:
    """Many rows by executemany, behind the row whose name is unique."""
    with db.begin() as connection:
        try:
            key = connection.execute(insert(Batch).values(name=name)).inserted_primary_key[0]
        except IntegrityError:
            connection.rollback()
            return
        rows = [{"batch_id": key, "position": i, "label": label} for i, label in enumerate(labels)]
        connection.execute(insert(Item), rows)


def store_batch_returning(db: Engine, name: str, labels: list[str]) -> list[int]:
    """insertmanyvalues: the new ids come back, in order, and are used."""
    with Session(db) as session:
        try:
            [key] = session.scalars(insert(Batch).returning(Batch.id), [{"name": name}]).all()
        except IntegrityError:
            session.rollback()
            return []
        rows = [{"batch_id": key, "position": i, "label": label} for i, label in enumerate(labels)]
        ids = session.scalars(insert(Item).returning(Item.id, sort_by_parameter_order=True), rows).all()
        session.add(Item(batch_id=key, position=len(labels), label=f"{len(ids)} in all"))
        session.commit()
        return list(ids)


def store_batch_patiently(db: Engine, name: str, labels: list[str]) -> None:
    """Tries again by itself, with a growing pause, when the database is away."""
    for attempt in range(4):
        try:
            # Not session.commit(): when SQLite's COMMIT fails, SQLAlchemy gives the connection back to the pool in
            # the middle of its transaction unless somebody rolls back, and the next attempt would land in there.
            with Session(db) as session, session.begin():
                session.add(_batch(name, labels))
            return
        except IntegrityError:
            return
        except OperationalError:
            if attempt == 3:
                raise
            time.sleep(0.5 * 2**attempt)


def add_missing_items(db: Engine, name: str, labels: list[str]) -> None:
    """Each step in a transaction of its own: every one starts from what is there."""
    with Session(db) as session:
        batch = session.scalar(select(Batch).where(Batch.name == name))
        if batch is None:
            session.add(Batch(name=name))
            try:
                session.commit()
            except IntegrityError:
                session.rollback()
            batch = session.scalars(select(Batch).where(Batch.name == name)).one()
        key = batch.id
        for position, label in enumerate(labels):
            there = session.scalar(select(Item.id).where(Item.batch_id == key, Item.position == position))
            if there is None:
                session.add(Item(batch_id=key, position=position, label=label))
                try:
                    session.commit()
                except IntegrityError:
                    session.rollback()


def relabel(db: Engine, name: str) -> int:
    """Loads objects, changes attributes: the unit of work writes only what is different."""
    with Session(db) as session:
        batch = session.scalars(select(Batch).where(Batch.name == name)).one()
        for item in batch.items:
            item.label = item.label.upper()
        session.commit()
        return session.scalar(select(func.count()).select_from(Item)) or 0


def seed_batch(world: Any) -> None:
    with Session(world.db) as session:
        session.add(_batch("spring", ["tea", "milk"]))
        session.commit()


def store_batch_or_fail_later(db: Engine, name: str, labels: list[str]) -> None:
    """Closes what it has opened, whatever happens; a lost connection surfaces."""
    session = Session(db)
    try:
        session.add(_batch(name, labels))
        session.commit()
    except IntegrityError:
        session.rollback()
    except DBAPIError:
        session.rollback()
        raise
    finally:
        session.close()
