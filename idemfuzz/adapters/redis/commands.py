"""What each Redis command is: a look, a write, or mere housekeeping of its connection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from idemfuzz.adapters.lease import lease_in

__all__ = [
    "BLOCKING",
    "SILENT",
    "block_seconds",
    "detail",
    "is_read",
    "lease_seconds",
    "name_of",
    "short",
    "transaction_detail",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Commands whose second word says what they do.
_CONTAINERS = _words(
    """
    ACL CLIENT CLUSTER COMMAND CONFIG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO
    """
)

SILENT = _words(
    """
    ASKING AUTH CLIENT-CACHING CLIENT-GETNAME CLIENT-ID CLIENT-INFO CLIENT-NO-EVICT CLIENT-NO-TOUCH
    CLIENT-REPLY CLIENT-SETINFO CLIENT-SETNAME CLIENT-TRACKING DISCARD ECHO HELLO PING QUIT READONLY
    READWRITE RESET SELECT UNWATCH
    """
)
"""Housekeeping of one connection: nothing that another delivery could notice, so not an Effect."""

# All commands that servers flag as read-only (Redis 7.0 to 8.0, Valkey 9, their modules), and those without a
# key that only report. A command that is missing here counts as a write: that costs trials and hides nothing.
_READS = _words(
    """
    BITCOUNT BITFIELD_RO BITPOS DBSIZE DUMP EVALSHA_RO EVAL_RO EXISTS EXPIRETIME FCALL_RO GEODIST
    GEOHASH GEOPOS GEORADIUSBYMEMBER_RO GEORADIUS_RO GEOSEARCH GET GETBIT GETRANGE DIGEST HEXISTS
    HEXPIRETIME HGET HGETALL HKEYS HLEN HMGET HPEXPIRETIME HPTTL HRANDFIELD HSCAN HSTRLEN HTTL HVALS
    KEYS LCS LINDEX LLEN LOLWUT LPOS LRANGE MGET OBJECT-ENCODING OBJECT-FREQ OBJECT-HELP OBJECT-IDLETIME
    OBJECT-REFCOUNT PEXPIRETIME PFCOUNT PTTL RANDOMKEY SCAN SCARD SDIFF SINTER SINTERCARD SISMEMBER
    SMEMBERS SMISMEMBER SORT_RO SRANDMEMBER SSCAN STRLEN SUBSTR SUNION TOUCH TTL TYPE XINFO-CONSUMERS
    XINFO-GROUPS XINFO-HELP XINFO-STREAM XLEN XPENDING XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZDIFF ZINTER
    ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE ZRANK ZREVRANGE
    ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION VCARD VDIM VEMB VGETATTR VINFO
    VISMEMBER VLINKS VRANDMEMBER VRANGE VSIM

    ACL-CAT ACL-DRYRUN ACL-GENPASS ACL-GETUSER ACL-HELP ACL-LIST ACL-LOG ACL-USERS ACL-WHOAMI
    CLIENT-GETREDIR CLIENT-HELP CLIENT-LIST CLIENT-TRACKINGINFO CLUSTER-COUNTKEYSINSLOT
    CLUSTER-GETKEYSINSLOT CLUSTER-INFO CLUSTER-KEYSLOT CLUSTER-LINKS CLUSTER-MYID CLUSTER-NODES
    CLUSTER-REPLICAS CLUSTER-SHARDS CLUSTER-SLOTS COMMAND COMMAND-COUNT COMMAND-DOCS COMMAND-GETKEYS
    COMMAND-GETKEYSANDFLAGS COMMAND-INFO COMMAND-LIST CONFIG-GET CONFIG-HELP FUNCTION-DUMP FUNCTION-LIST
    FUNCTION-STATS INFO LASTSAVE LATENCY-DOCTOR LATENCY-GRAPH LATENCY-HISTOGRAM LATENCY-HISTORY
    LATENCY-LATEST MEMORY-DOCTOR MEMORY-STATS MEMORY-USAGE MODULE-LIST PUBSUB-CHANNELS PUBSUB-NUMPAT
    PUBSUB-NUMSUB PUBSUB-SHARDCHANNELS PUBSUB-SHARDNUMSUB ROLE SCRIPT-EXISTS SCRIPT-LOAD SLOWLOG-GET
    SLOWLOG-LEN TIME WAIT WAITAOF WATCH

    BF.CARD BF.EXISTS BF.INFO BF.MEXISTS BF.SCANDUMP CF.COUNT CF.EXISTS CF.INFO CF.MEXISTS CF.SCANDUMP
    CMS.INFO CMS.QUERY FT._LIST FT.AGGREGATE FT.DICTDUMP FT.EXPLAIN FT.INFO FT.PROFILE FT.SEARCH
    FT.SPELLCHECK FT.SUGGET FT.SUGLEN FT.SYNDUMP FT.TAGVALS JSON.ARRINDEX JSON.ARRLEN JSON.DEBUG
    JSON.GET JSON.MGET JSON.OBJKEYS JSON.OBJLEN JSON.RESP JSON.STRLEN JSON.TYPE TDIGEST.BYRANK
    TDIGEST.BYREVRANK TDIGEST.CDF TDIGEST.INFO TDIGEST.MAX TDIGEST.MIN TDIGEST.QUANTILE TDIGEST.RANK
    TDIGEST.REVRANK TDIGEST.TRIMMED_MEAN TOPK.COUNT TOPK.INFO TOPK.LIST TOPK.QUERY TS.GET TS.INFO
    TS.MGET TS.MRANGE TS.MREVRANGE TS.QUERYINDEX TS.RANGE TS.REVRANGE
    """
)

# Writes only with an option; without it they look.
_STORING = {"SORT": b"STORE", "GEORADIUS": b"STORE", "GEORADIUSBYMEMBER": b"STORE"}

BLOCKING = {
    **dict.fromkeys(_words("BLPOP BRPOP BZPOPMIN BZPOPMAX BRPOPLPUSH BLMOVE"), -1),
    **dict.fromkeys(_words("BLMPOP BZMPOP"), 1),
}
"""Commands that may wait for a key, with the position of their time-out in seconds."""

_SECRET = frozenset({"AUTH", "HELLO", "ACL-SETUSER", "CONFIG-SET", "MIGRATE"})
_ARGUMENT_LENGTH_MAX = 40
_DETAIL_LENGTH_MAX = 160
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def name_of(args: Sequence[Any]) -> str:
    """``("set", "k", 1)`` is SET, ``("XGROUP CREATE", k)`` and ``("XGROUP", "CREATE", k)`` XGROUP-CREATE."""
    name = _text(args[0]).upper()
    if " " in name:
        return "-".join(name.split())
    if name in _CONTAINERS and len(args) > 1:
        return f"{name}-{_text(args[1]).upper()}"
    return name


def is_read(name: str, args: Sequence[Any]) -> bool:
    """Whether the command leaves nothing behind."""
    if name in _READS:
        return True
    option = _STORING.get(name)
    return option is not None and not any(_word(argument).startswith(option) for argument in args[1:])


def block_seconds(name: str, args: Sequence[Any]) -> float | None:
    """How long the command may wait for a key; 0 is for ever, None is not at all."""
    position = BLOCKING.get(name)
    if position is not None and len(args) > 1:
        return float(args[position])
    if name in ("XREAD", "XREADGROUP"):
        for index, argument in enumerate(args[:-1]):
            word = _word(argument)
            if word == b"STREAMS":
                return None
            if word == b"BLOCK":
                return float(args[index + 1]) / 1000
    return None


def lease_seconds(name: str, args: Sequence[Any]) -> float | None:
    """After how many seconds what the command writes expires, or is to be taken for that (`lease_in`); None: never."""
    found = [_expiry_seconds(name, args), None if is_read(name, args) else lease_in(args[1:])]
    return min((seconds for seconds in found if seconds is not None), default=None)


def _expiry_seconds(name: str, args: Sequence[Any]) -> float | None:
    try:
        if name in ("EXPIRE", "SETEX"):
            return float(args[2])
        if name in ("PEXPIRE", "PSETEX"):
            return float(args[2]) / 1000
        if name in ("SET", "GETEX"):
            for index, argument in enumerate(args[2:-1], 2):
                if (unit := _word(argument)) in (b"EX", b"PX"):
                    return float(args[index + 1]) / (1000 if unit == b"PX" else 1)
    except (ValueError, TypeError, IndexError):
        return None
    return None


def detail(name: str, args: Sequence[Any]) -> str:
    """The command for people, with long values cut: ``SET email_sent:1 true EX 604800``."""
    if name in _SECRET:
        return f"{name.replace('-', ' ')} ..."
    words = [_text(args[0]).upper(), *(short(argument) for argument in args[1:])]
    return _cut(" ".join(words), _DETAIL_LENGTH_MAX)


def transaction_detail(names: str, commands: Iterable[Sequence[Any]]) -> str:
    """A pipeline for people: ``MULTI: SET a 1; INCR b``."""
    inner = "; ".join(detail(name_of(args), args) for args in commands)
    return _cut(f"{names}: {inner}", 2 * _DETAIL_LENGTH_MAX)


def short(value: Any) -> str:
    """A value or a reply in a few readable characters."""
    if isinstance(value, list | tuple):
        items = ", ".join(short(item) for item in value[:6])
        return _cut(f"[{items}" + (", …]" if len(value) > 6 else "]"), 80)
    if isinstance(value, dict):
        pairs = (f"{short(k)}: {short(v)}" for k, v in list(value.items())[:6])
        return _cut("{" + ", ".join(pairs) + (", …}" if len(value) > 6 else "}"), 80)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    if isinstance(value, str | bytes):
        text = _UNPRINTABLE.sub("·", _text(value))
        return _cut(text, _ARGUMENT_LENGTH_MAX) if text else "''"
    return _cut(str(value), _ARGUMENT_LENGTH_MAX)


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)


def _word(argument: Any) -> bytes:
    if isinstance(argument, str):
        return argument.upper().encode()
    return bytes(argument).upper() if isinstance(argument, bytes) else b""


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1] + "…"
