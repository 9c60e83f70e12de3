"""Jobs that work on Redis, alone or beside a database."""

from __future__ import annotations

import json
import random
import secrets
import string
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import redis
from redis.exceptions import LockError, RedisError, ResponseError, WatchError
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    update,
)

from safe.sql import add_if_new

metadata = MetaData()
Redis = Any


# -- commands that can be repeated ---------------------------------------------------------------------------------


def publish_price(cache: Redis, sku: str, cents: int) -> None:
    """Absolute values, one of them with an expiry."""
    cache.set(f"price:{sku}", cents)
    cache.set(f"price:{sku}:fresh", "1", ex=300)


def index_product(cache: Redis, product: int, words: list[str], fields: dict[str, str]) -> None:
    """Sets, hashes and sorted sets hold a member once."""
    for word in words:
        cache.sadd(f"word:{word}", product)
    cache.hset(f"product:{product}", mapping=fields)
    cache.zadd("newest", {str(product): 1700000000})
    cache.setbit("indexed", product, 1)
    cache.pfadd("words", *words)


def replace_ranking(cache: Redis, names: list[str]) -> None:
    """DEL and RPUSH in one MULTI: the list is as long as it should be, however often it is written."""
    with cache.pipeline() as pipeline:
        pipeline.delete("ranking")
        pipeline.rpush("ranking", *names)
        pipeline.expire("ranking", 3600)
        pipeline.execute()


def forget_user(cache: Redis, user: int) -> None:
    """Deleting what is gone is no work."""
    cache.delete(f"user:{user}", f"user:{user}:cart")
    cache.srem("online", user)
    cache.zrem("last_seen", user)


def seed_users(world: Any) -> None:
    for user in (1, 2):
        world.redis.hset(f"user:{user}", mapping={"name": f"user {user}"})
        world.redis.rpush(f"user:{user}:cart", "tea")
        world.redis.sadd("online", user)
        world.redis.zadd("last_seen", {str(user): 1700000000 + user})
    world.redis.set("motd", "hello", ex=900)


def touch_session(cache: Redis, user: int) -> None:
    """The time of the last request, three times over, and a longer life."""
    now = datetime.now(UTC)
    cache.hset(f"user:{user}", "seen_at", now.isoformat())
    cache.zadd("last_seen", {str(user): int(now.timestamp())})
    cache.expire(f"user:{user}", 1800)


def announce_once(cache: Redis, sale: str) -> None:
    """What is announced lasts half a minute, and the mark for ever: a late repetition finds the mark alone."""
    if cache.hexists("announced", sale):
        return
    with cache.pipeline() as pipeline:
        pipeline.set("banner", f"Sale: {sale}", ex=30)
        pipeline.hset("announced", sale, 1)
        pipeline.execute()


def rename_session(cache: Redis, user: int, name: str) -> None:
    """Changes a session that is still there, and lets it live on; one that has run out stays away."""
    cache.set(f"session:{user}", name, xx=True, keepttl=True)
    cache.expire("sessions:fresh", 1800)
    cache.hset("names", user, name)


def seed_session(world: Any) -> None:
    world.redis.set("session:7", "Ada", ex=900)
    world.redis.set("sessions:fresh", "yes", ex=900)


# -- guards -----------------------------------------------------------------------------------------------------

_CLAIM_AND_ADD = """
if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('INCRBY', KEYS[2], ARGV[2])
redis.call('RPUSH', KEYS[3], ARGV[1])
return 1
"""


def count_sale(cache: Redis, sale: str, cents: int) -> int:
    """Claim and apply in one Lua script: sent twice, it counts once."""
    keys = ["sales:done", "sales:cents", "sales:log"]
    return int(cache.eval(_CLAIM_AND_ADD, len(keys), *keys, sale, cents))


def count_sale_registered(cache: Redis, sale: str, cents: int) -> int:
    """The same as a registered script."""
    script = cache.register_script(_CLAIM_AND_ADD)
    return int(script(keys=["sales:done", "sales:cents", "sales:log"], args=[sale, cents]))


def book_seat(cache: Redis, booking: str, flight: str) -> bool:
    """WATCH, look, MULTI; if anything has changed meanwhile, look again."""
    with cache.pipeline() as pipeline:
        for _ in range(10):
            try:
                pipeline.watch(f"bookings:{flight}", f"seats:{flight}")
                if pipeline.sismember(f"bookings:{flight}", booking):
                    return True
                free = int(pipeline.get(f"seats:{flight}") or 0)
                if not free:
                    return False
                pipeline.multi()
                pipeline.decr(f"seats:{flight}")
                pipeline.sadd(f"bookings:{flight}", booking)
                pipeline.execute()
            except WatchError:
                continue
            return True
    raise RuntimeError(f"{flight} is too busy")


def seed_seats(world: Any) -> None:
    world.redis.set("seats:XY1", 3)
    world.redis.sadd("bookings:XY1", "b-0")


def record_event(cache: Redis, source: str, number: int, body: str) -> None:
    """A stream entry under an id of its own; the server refuses it the second time."""
    try:
        cache.xadd(f"events:{source}", {"body": body, "number": number}, id=f"{number}-1")
    except ResponseError as error:
        if "equal or smaller" not in str(error):
            raise


def start_visit(cache: Redis, visitor: str) -> str:
    """A made-up id inside keys and values: the first one stays."""
    cache.hsetnx("visits", visitor, str(uuid.uuid4()))
    visit = cache.hget("visits", visitor).decode()
    cache.hset(f"visit:{visit}", mapping={"visitor": visitor, "id": visit})
    cache.sadd("visits:open", visit)
    cache.set(f"visit:{visit}:note", json.dumps({"visit": visit, "of": visitor}), ex=3600)
    return visit


def start_session(cache: Redis, user: str) -> str:
    """A token in URL-safe base64 in the names of keys; the first one stays."""
    cache.hsetnx("sessions", user, secrets.token_urlsafe(24))
    session = cache.hget("sessions", user).decode()
    cache.hset(f"session:{session}", mapping={"user": user, "id": session})
    return session


def invite(cache: Redis, user: str) -> str:
    """A code of letters alone, in the name of a key; the first one stays. Another key's name has no code in it."""
    cache.hsetnx("invited", user, "".join(random.choices(string.ascii_uppercase, k=8)))
    code = cache.hget("invited", user).decode()
    cache.set(f"invite:{code}:by", user)
    cache.set("invite:latest:by", user)
    return code


def remember_result(cache: Redis, question: str, answer: str) -> str:
    """SET NX: the first answer counts, whoever gives it."""
    cache.set(f"answer:{question}", answer, nx=True, ex=86400)
    return answer


def count_members(cache: Redis) -> None:
    """Stores what it has computed from other keys."""
    cache.sunionstore("online:all", ["online", "online:guests"])
    cache.set("online:count", cache.scard("online:all"))


# -- beside a database ----------------------------------------------------------------------------------------------

articles = Table(
    "cached_articles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("slug", String(60), unique=True),
    Column("title", String(80)),
    sqlite_autoincrement=True,
)


def publish_article(db: Engine, cache: Redis, slug: str, title: str) -> None:
    """Writes the row, then fills the cache; a cache that is away is no reason to fail."""
    with db.begin() as connection:
        add_if_new(connection, articles, slug=slug, title=title)
        row = connection.execute(select(articles).where(articles.c.slug == slug)).one()
    try:
        cache.setex(f"article:{slug}", 600, json.dumps({"id": row.id, "title": row.title}))
    except RedisError:
        pass


def index_article(db: Engine, cache: Redis, slug: str, title: str) -> None:
    """The row's id stands in Redis keys and in a set."""
    with db.begin() as connection:
        add_if_new(connection, articles, slug=slug, title=title)
        key = connection.execute(select(articles.c.id).where(articles.c.slug == slug)).scalar_one()
    with cache.pipeline() as pipeline:
        pipeline.sadd("articles", key)
        pipeline.hset(f"article:{key}", mapping={"slug": slug, "id": key})
        pipeline.execute()


accounts = Table(
    "token_accounts",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("tokens", Integer, nullable=False),
    Column("last_grant", String(40)),
)
grants = Table(
    "token_grants",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(40)),
    Column("grant_no", String(40)),
    Column("at", DateTime, server_default=func.now()),
)


def seed_token_accounts(world: Any) -> None:
    with world.db.begin() as connection:
        connection.execute(insert(accounts).values(name="ada", tokens=5))


def _grant(db: Engine, name: str, grant_no: str, tokens: int) -> None:
    with db.begin() as connection:
        if connection.execute(select(grants.c.id).where(grants.c.grant_no == grant_no)).first() is None:
            connection.execute(insert(grants).values(name=name, grant_no=grant_no))
            connection.execute(
                update(accounts).where(accounts.c.name == name).values(tokens=accounts.c.tokens + tokens)
            )


def grant_tokens_locked(db: Engine, cache: Redis, name: str, grant_no: str, tokens: int) -> None:
    """redis-py's Lock, around a check and an insert without a unique key; it outlives the time limit of the job."""
    try:
        with cache.lock(f"lock:{grant_no}", timeout=300, blocking_timeout=30):
            _grant(db, name, grant_no, tokens)
    except LockError:
        if not _granted(db, grant_no):
            raise


def _granted(db: Engine, grant_no: str) -> bool:
    with db.connect() as connection:
        return (
            connection.execute(select(grants.c.id).where(grants.c.grant_no == grant_no)).first() is not None
        )


class Busy(Exception):
    """Another worker has the lease; the queue will come again."""


_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def grant_tokens_leased(db: Engine, cache: Redis, name: str, grant_no: str, tokens: int) -> None:
    """A lease under a token of one's own; a dead worker's lease runs out and the next one takes over."""
    if _granted(db, grant_no):
        return
    lease, token = f"lease:{grant_no}", str(uuid.uuid4())
    if not cache.set(lease, token, nx=True, ex=600) and cache.get(lease) != token.encode():
        raise Busy(grant_no)
    try:
        _grant(db, name, grant_no, tokens)
    finally:
        cache.eval(_RELEASE, 1, lease, token)


def grant_tokens_and_tell(db: Engine, cache: Redis, name: str, grant_no: str, tokens: int) -> None:
    """The database decides; Redis gets what the database says, absolutely."""
    with db.begin() as connection:
        connection.execute(
            update(accounts)
            .where(accounts.c.name == name, func.coalesce(accounts.c.last_grant, "") != grant_no)
            .values(tokens=accounts.c.tokens + tokens, last_grant=grant_no)
        )
        total = connection.execute(select(accounts.c.tokens).where(accounts.c.name == name)).scalar_one()
    cache.hset("tokens", name, total)


def publish_twice_patiently(cache: Redis, sku: str, cents: int) -> None:
    """Tries again by itself when Redis is away."""
    import time

    for attempt in range(3):
        try:
            cache.hset("prices", sku, cents)
            return
        except redis.ConnectionError:
            if attempt == 2:
                raise
            time.sleep(2**attempt)


def mark_on_threads(redis: Redis, ids: Sequence[int]) -> None:
    """A pool of threads, whose errors are the job's."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda number: redis.set(f"mark:{number}", "done"), ids))


_POOL = ThreadPoolExecutor(2)


def mark_on_the_modules_threads(redis: Redis, ids: Sequence[int]) -> None:
    """Threads that outlive the job, and work for whoever comes."""
    for future in [_POOL.submit(redis.set, f"mark:{number}", "done") for number in ids]:
        future.result()
