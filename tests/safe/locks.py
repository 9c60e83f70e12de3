"""Jobs that a lock, a version or an isolation level guards."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import Engine, ForeignKey, String, event, func, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    credits: Mapped[int] = mapped_column(default=0)


class Shipment(Base):
    __tablename__ = "shipments"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"))
    order_no: Mapped[str] = mapped_column(String(40))


class Account(Base):
    __tablename__ = "bank_accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    last_payment: Mapped[str | None] = mapped_column(String(40))
    version: Mapped[int] = mapped_column(default=1)

    __mapper_args__: ClassVar[dict[str, Any]] = {"version_id_col": version}


def seed_customers(world: Any) -> None:
    with Session(world.db) as session:
        session.add_all([Customer(id=1, name="Ada"), Customer(id=2, name="Grace")])
        session.commit()


def seed_account(world: Any) -> None:
    with Session(world.db) as session:
        session.add(Account(id=1, balance=100))
        session.commit()


def _ship(session: Session, customer: int, order_no: str) -> None:
    there = session.scalar(select(Shipment.id).where(Shipment.order_no == order_no))
    if there is None:
        session.add(Shipment(customer_id=customer, order_no=order_no))
        session.execute(update(Customer).where(Customer.id == customer).values(credits=Customer.credits + 1))


def ship_under_row_lock(db: Engine, customer: int, order_no: str) -> None:
    """SELECT ... FOR UPDATE on the parent before the look: there is no unique key."""
    with Session(db) as session, session.begin():
        session.scalars(select(Customer).where(Customer.id == customer).with_for_update()).one()
        _ship(session, customer, order_no)


def ship_under_write_lock(db: Engine, customer: int, order_no: str) -> None:
    """The first statement writes the parent's row, which locks it everywhere."""
    with Session(db) as session, session.begin():
        session.execute(update(Customer).where(Customer.id == customer).values(name=Customer.name))
        _ship(session, customer, order_no)


def ship_under_advisory_lock(db: Engine, customer: int, order_no: str) -> None:
    """pg_advisory_xact_lock, held until the transaction ends."""
    with Session(db) as session, session.begin():
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(order_no))))
        _ship(session, customer, order_no)


def look_under_advisory_lock(db: Engine, customer: int, order_no: str) -> None:
    """Looks under the lock, commits by hand, and inserts under it again: a limit within COMMIT leaves no lock behind."""
    lock = select(func.pg_advisory_xact_lock(func.hashtext(order_no)))
    with db.connect() as connection:
        connection.execute(lock)
        shipped = connection.execute(select(Shipment.id).where(Shipment.order_no == order_no)).first()
        connection.commit()
        if shipped is None:
            with Session(connection) as session:
                session.execute(lock)
                _ship(session, customer, order_no)
                session.commit()


def ship_if_advisory_lock_is_free(db: Engine, customer: int, order_no: str) -> None:
    """Who does not get the lock fails, and the queue comes again."""
    with Session(db) as session, session.begin():
        if not session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(order_no)))):
            raise RuntimeError(f"order {order_no} is being shipped by another worker")
        _ship(session, customer, order_no)


def ship_under_named_lock(db: Engine, customer: int, order_no: str) -> None:
    """GET_LOCK, which belongs to the connection, is given back after the commit."""
    # Such a name is known to the whole server, so the database's own is a part of it.
    lock = func.concat(func.database(), ":", order_no)
    with db.connect() as connection:
        if connection.execute(select(func.get_lock(lock, 10))).scalar() != 1:
            raise RuntimeError(f"order {order_no} is being shipped by another worker")
        # The lock stays; the session must not join this transaction, or its commit would be none.
        connection.commit()
        try:
            with Session(connection) as session:
                _ship(session, customer, order_no)
                session.commit()
        finally:
            connection.execute(select(func.release_lock(lock)))


def ship_serializable(db: Engine, customer: int, order_no: str) -> None:
    """A serialisation failure is tried again at once, twice; then it is the queue's turn."""
    serial = db.execution_options(isolation_level="SERIALIZABLE")
    for attempt in range(3):
        try:
            with Session(serial) as session, session.begin():
                _ship(session, customer, order_no)
            return
        except OperationalError:
            if attempt == 2:
                raise


def begin_immediately(world: Any) -> None:
    """The recipe of SQLAlchemy's documentation: a transaction takes SQLite's write lock when it begins."""
    seed_customers(world)

    @event.listens_for(world.db, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(world.db, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    world.db.dispose()


def ship_immediate(db: Engine, customer: int, order_no: str) -> None:
    """Check, then insert, in a transaction that holds the write lock from its start."""
    with Session(db) as session, session.begin():
        _ship(session, customer, order_no)


def credit_account(db: Engine, account: int, payment: str, cents: int) -> None:
    """An optimistic version: who has read an old one fails, and the queue comes again."""
    with Session(db) as session:
        row = session.get_one(Account, account)
        if row.last_payment == payment:
            return
        row.balance += cents
        row.last_payment = payment
        session.commit()


def credit_by_hand(db: Engine, account: int, payment: str, cents: int) -> None:
    """The same without the ORM: compare and set, and start over if somebody was quicker."""
    accounts = Account.__table__
    for _ in range(5):
        with db.begin() as connection:
            row = connection.execute(select(accounts).where(accounts.c.id == account)).one()
            if row.last_payment == payment:
                return
            changed = connection.execute(
                update(accounts)
                .where(accounts.c.id == account, accounts.c.version == row.version)
                .values(balance=row.balance + cents, last_payment=payment, version=row.version + 1)
            ).rowcount
        if changed:
            return
    raise RuntimeError("too many others write this account")


class Task(Base):
    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    result: Mapped[str | None] = mapped_column(String(40))


def seed_tasks(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(Task), [{"id": 1, "state": "open"}, {"id": 2, "state": "open"}])


def work_off_tasks(db: Engine) -> None:
    """SKIP LOCKED: takes what nobody else has; what is left when another worker dies stays open for the next."""
    with Session(db) as session, session.begin():
        open_tasks = (
            select(Task).where(Task.state == "open").order_by(Task.id).with_for_update(skip_locked=True)
        )
        for task in session.scalars(open_tasks):
            task.state, task.result = "done", f"result {task.id}"


def rebuild_totals(db: Engine, name: str) -> None:
    """LOCK TABLE: nobody else writes while the rows are replaced."""
    with db.begin() as connection:
        connection.execute(text("LOCK TABLE tasks IN EXCLUSIVE MODE"))
        connection.execute(text("DELETE FROM tasks WHERE state = 'total'"))
        connection.execute(
            text("INSERT INTO tasks (id, state, result) SELECT 100 + count(*), 'total', :name FROM tasks"),
            {"name": name},
        )
