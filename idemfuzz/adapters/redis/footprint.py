"""What a command reads and writes, told from its name and its keys, before it is sent.

There is one plane only, DATA: no command keeps another one waiting. Which words are keys is what the server's own
COMMAND says; a command that is missing here touches the whole database.

A script is believed to touch the keys that it declares, and no others. That EVAL makes a script known to
EVALSHA is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from idemfuzz.adapters.redis.commands import is_read, name_of
from idemfuzz.model.footprint import NOTHING, Footprint, Region

__all__ = ["command_footprint", "key_name", "keys_of", "pipeline_footprint"]

Words = Sequence[Any]
"""A command as one flat sequence: ``OBJECT ENCODING k`` is three words, however it was passed."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FIRST = _words(
    """
    APPEND BITCOUNT BITFIELD BITFIELD_RO BITPOS DECR DECRBY DUMP EXPIRE EXPIREAT EXPIRETIME GEOADD GEODIST GEOHASH
    GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETDEL GETEX GETRANGE GETSET HDEL HEXISTS HEXPIRE
    HEXPIREAT HEXPIRETIME HGET HGETALL HGETDEL HGETEX HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HPERSIST HPEXPIRE
    HPEXPIREAT HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSET HSETEX HSETNX HSTRLEN HTTL HVALS INCR INCRBY INCRBYFLOAT
    LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PFADD
    PSETEX PTTL RESTORE RPOP RPUSH RPUSHX SADD SCARD SET SETBIT SETEX SETNX SETRANGE SISMEMBER SMEMBERS SMISMEMBER
    SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSTR TTL TYPE XACK XADD XAUTOCLAIM XCLAIM XDEL XLEN XPENDING XRANGE
    XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZLEXCOUNT ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE
    ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYLEX
    ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE
    """
)
_FIRST_TWO = _words(
    "BLMOVE BRPOPLPUSH COPY GEOSEARCHSTORE LCS LMOVE RENAME RENAMENX RPOPLPUSH SMOVE ZRANGESTORE"
)
_ALL = _words(
    "DEL EXISTS MGET PFCOUNT PFMERGE SDIFF SDIFFSTORE SINTER SINTERSTORE SUNION SUNIONSTORE TOUCH UNLINK WATCH"
)
_ALL_BUT_LAST = _words("BLPOP BRPOP BZPOPMAX BZPOPMIN")
_EVERY_OTHER = _words("MSET MSETNX")
_SECOND = _words(
    """
    MEMORY-USAGE OBJECT-ENCODING OBJECT-FREQ OBJECT-IDLETIME OBJECT-REFCOUNT XGROUP-CREATE XGROUP-CREATECONSUMER
    XGROUP-DELCONSUMER XGROUP-DESTROY XGROUP-SETID XINFO-CONSUMERS XINFO-GROUPS XINFO-STREAM
    """
)
# The position of the number of keys, which follow it; and whether a destination stands before it.
_NUMBERED: dict[str, tuple[int, bool]] = {
    **dict.fromkeys(_words("LMPOP SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION"), (1, False)),
    **dict.fromkeys(_words("BLMPOP BZMPOP"), (2, False)),
    **dict.fromkeys(_words("ZDIFFSTORE ZINTERSTORE ZUNIONSTORE"), (2, True)),
}
_SCRIPTS = _words("EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO")

# These reach beyond one database, or change what others mean: they are unknown, so that they conflict with all.
_EVERYWHERE = _words(
    """
    CONFIG-SET DEBUG EXEC FAILOVER FLUSHALL FUNCTION-DELETE FUNCTION-FLUSH FUNCTION-LOAD FUNCTION-RESTORE MIGRATE
    MODULE-LOAD MOVE MULTI SCRIPT-FLUSH SHUTDOWN SWAPDB
    """
)


def key_name(key: Any, encoding: str = "utf-8") -> str:
    """The key as one text, whatever the client was given: ``"k"``, ``b"k"`` and ``memoryview(b"k")`` are one."""
    if isinstance(key, bytes | bytearray | memoryview):
        return bytes(key).decode("utf-8", "surrogateescape")
    if isinstance(key, str):
        if encoding.lower() in ("utf-8", "utf8") or key.isascii():
            return str(key)
        return key.encode(encoding, "replace").decode("utf-8", "surrogateescape")
    # As redis-py writes numbers.
    return repr(key) if isinstance(key, float) else str(key)


def keys_of(name: str, words: Words) -> list[Any] | None:
    """The words that are keys; None if that is not known, or if what is touched has no name."""
    if name in _FIRST:
        return list(words[1:2])
    if name in _FIRST_TWO:
        return list(words[1:3])
    if name in _ALL:
        return list(words[1:])
    if name in _ALL_BUT_LAST:
        return list(words[1:-1])
    if name in _EVERY_OTHER:
        return list(words[1::2])
    if name in _SECOND:
        return list(words[2:3])
    if name in _NUMBERED:
        position, stores = _NUMBERED[name]
        keys = _counted(words, position)
        return keys if keys is None or not stores else [words[1], *keys]
    if name in _SCRIPTS:
        # Without keys, it may be one that makes up their names.
        return _counted(words, 2) or None
    special = _SPECIAL.get(name)
    return special(words) if special is not None else None


def command_footprint(store: str, args: Words, encoding: str = "utf-8") -> Footprint | None:
    """One command as redis-py gets it; None is unknown."""
    name = name_of(args)
    words = _flat(args)
    if name in _EVERYWHERE or (name == "COPY" and any(_is(word, b"DB") for word in words[3:])):
        return None
    reads = is_read(name, words)
    if name in ("PUBLISH", "SPUBLISH") and len(words) > 1:
        return Footprint.of(writes=[Region(store, f"!channel {key_name(words[1], encoding)}")])
    if name == "TIME":
        return NOTHING
    if name == "SCRIPT-LOAD":
        return Footprint.of(writes=[Region(store, "!scripts")])
    keys = keys_of(name, words)
    if keys is None:
        regions = frozenset({Region(store)})
    else:
        regions = frozenset([Region(store, key_name(key, encoding)) for key in keys])
    if name in ("EVALSHA", "EVALSHA_RO"):
        found = Footprint(regions) if reads else Footprint(writes=regions)
        return found | Footprint.of([Region(store, "!scripts")])
    return Footprint(regions) if reads else Footprint(writes=regions)


def pipeline_footprint(
    store: str, commands: Iterable[Words], watched: Iterable[str] = (), encoding: str = "utf-8"
) -> Footprint | None:
    """Several commands in one go; the result of an EXEC depends on the keys that were watched, too."""
    found = Footprint.of([Region(store, key) for key in watched])
    for args in commands:
        one = command_footprint(store, args, encoding)
        if one is None:
            return None
        found = found | one
    return found


def _flat(args: Words) -> Words:
    """redis-py passes ``"OBJECT ENCODING"`` as one word."""
    first = args[0]
    if isinstance(first, str) and " " in first:
        return (*first.split(), *args[1:])
    return args


def _counted(words: Words, position: int) -> list[Any] | None:
    try:
        count = int(words[position])
    except (IndexError, ValueError, TypeError):
        return None
    keys = list(words[position + 1 : position + 1 + count])
    return keys if len(keys) == count else None


def _is(word: Any, option: bytes) -> bool:
    if isinstance(word, str):
        return word.upper() == option.decode()
    return isinstance(word, bytes) and word.upper() == option


def _after(words: Words, *options: bytes) -> list[Any]:
    return [
        words[index + 1]
        for index in range(len(words) - 1)
        if any(_is(words[index], option) for option in options)
    ]


def _sort(words: Words) -> list[Any] | None:
    """SORT reads other keys by patterns: then it may be any."""
    if any(_is(word, b"BY") or _is(word, b"GET") for word in words[2:]):
        return None
    return [*words[1:2], *_after(words[2:], b"STORE")]


def _radius(words: Words) -> list[Any]:
    return [*words[1:2], *_after(words[2:], b"STORE", b"STOREDIST")]


def _streams(words: Words) -> list[Any] | None:
    for index, word in enumerate(words):
        if _is(word, b"STREAMS"):
            rest = words[index + 1 :]
            return list(rest[: len(rest) // 2]) if rest and len(rest) % 2 == 0 else None
    return None


_SPECIAL: dict[str, Callable[[Words], list[Any] | None]] = {
    "BITOP": lambda words: list(words[2:]),
    "SORT": _sort,
    "SORT_RO": _sort,
    "GEORADIUS": _radius,
    "GEORADIUSBYMEMBER": _radius,
    "XREAD": _streams,
    "XREADGROUP": _streams,
}
