"""Redis keys that a second execution, or a command that the client sends again, changes once more."""

from __future__ import annotations

import json
import pickle
import secrets
import time
import uuid
import zlib
from typing import Any


class Busy(Exception):
    """Another worker is on it: the queue shall deliver again."""


def count_download(redis: Any, document: str) -> None:
    redis.incr(f"downloads:{document}")


def add_to_revenue(redis: Any, day: str, amount: float) -> None:
    redis.incrbyfloat(f"revenue:{day}", amount)


def push_to_feed(redis: Any, user: str, event: str) -> None:
    redis.lpush(f"feed:{user}", event)
    redis.ltrim(f"feed:{user}", 0, 99)


def queue_thumbnail(redis: Any, image: str) -> None:
    redis.rpush("thumbnails", image)


def score_point(redis: Any, player: str) -> None:
    redis.zincrby("leaderboard", 1, player)


def count_by_country(redis: Any, country: str) -> None:
    redis.hincrby("signups", country, 1)


def publish_to_stream(redis: Any, order: str) -> None:
    redis.xadd("orders", {"order": order, "event": "paid"})


def add_token(redis: Any, user: str) -> None:
    """A set keeps each member once; this one is never the same."""
    redis.sadd(f"tokens:{user}", uuid.uuid4().hex)


def issue_reset_link(redis: Any, user: str) -> None:
    """It runs out by itself, and yet there are two of them."""
    redis.set(f"reset:{uuid.uuid4().hex}", user, ex=3600)


def open_session(redis: Any, user: str) -> None:
    """A token in URL-safe base64: hyphens and underscores in it are other ones each time, and are no separators."""
    session = secrets.token_urlsafe(24)
    redis.hset(f"session:{session}", mapping={"user": user, "at": time.time()})
    redis.expire(f"session:{session}", 3600)
    redis.sadd(f"sessions:{user}", session)


def revive_session(redis: Any, user: str) -> None:
    """KEEPTTL keeps what there is: of a session that has run out, a late repetition makes one that never does."""
    redis.set(f"session:{user}", "renamed", keepttl=True)


def shorten_link(redis: Any, target: str) -> None:
    """A made-up name so short that it may look like a word."""
    redis.set(f"link:{secrets.token_urlsafe(6)}", target)


def append_log(redis: Any, line: str) -> None:
    redis.append("log", line + "\n")


def take_voucher(redis: Any) -> None:
    """Takes whatever is first: the next delivery takes the next."""
    redis.lpop("vouchers")


def count_in_pipeline(redis: Any, page: str) -> None:
    """A transaction makes it whole, not repeatable."""
    with redis.pipeline(transaction=True) as pipeline:
        pipeline.incr(f"views:{page}")
        pipeline.hset(f"page:{page}", "seen", "yes")
        pipeline.execute()


def read_modify_write(redis: Any, key: str) -> None:
    value = int(redis.get(key) or 0)
    redis.set(key, value + 1)


def lock_as_dedupe(redis: Any, event: str) -> None:
    """A claim of half a minute, and no record of the work: the redelivery comes when the claim is gone."""
    if not redis.set(f"claim:{event}", "1", nx=True, ex=30):
        raise Busy(event)
    redis.rpush("events", event)


def short_memory(redis: Any, event: str) -> None:
    """Claim and work are one script, but the claim is forgotten after half a minute: a late redelivery repeats."""
    script = (
        "if redis.call('SET', KEYS[1], '1', 'NX', 'EX', 30) then redis.call('RPUSH', KEYS[2], ARGV[1]) end"
    )
    redis.eval(script, 2, f"seen:{event}", "events", event)


def ticket_with_lua(redis: Any, user: str) -> None:
    """One script is atomic; it still gives a ticket per run."""
    script = "local n = redis.call('INCR', KEYS[1]) redis.call('HSET', KEYS[2], n, ARGV[1]) return n"
    redis.eval(script, 2, "tickets:last", "tickets", user)


def count_in_pickle(redis: Any, user: str) -> None:
    """A session as a web framework keeps it, with a token that is another one each time."""
    held = redis.get(f"session:{user}")
    session = pickle.loads(held) if held else {"requests": 0}
    session = {"requests": session["requests"] + 1, "token": uuid.uuid4()}
    redis.set(f"session:{user}", pickle.dumps(session))


def append_to_packed(redis: Any, name: str) -> None:
    """A list of JSON, packed, in which each entry has its time."""
    held = redis.get(f"packed:{name}")
    entries = json.loads(zlib.decompress(held)) if held else []
    redis.set(f"packed:{name}", zlib.compress(json.dumps([*entries, {"at": time.time()}]).encode()))
