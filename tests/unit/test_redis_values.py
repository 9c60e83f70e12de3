"""What the Redis adapter makes of names, replies and commands."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from idemfuzz.abc import Options, Unusable
from idemfuzz.adapters.redis import RedisAdapter
from idemfuzz.adapters.redis.commands import block_seconds, detail, is_read, name_of, short
from idemfuzz.adapters.redis.store import Address
from idemfuzz.adapters.redis.values import content, pattern, text
from idemfuzz.model import Opaque


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("email_sent:17", "email_sent:*"),
        ("user:ada@example.org", "user:ada@example.org"),
        ("payment:7f0e4e0c-9a2f-4a43-8f5e-1f2d3c4b5a69:state", "payment:*:state"),
        ("payment:7f0e4e0c9a2f4a438f5e1f2d3c4b5a69", "payment:*"),
        ("lock:deadbeef01", "lock:*"),
        ("feedface", "feedface"),
        ("report_2024_01", "report_*_*"),
        ("session:_Ub8831PMC9uBrqpCobbeU0yoTW7EnnLdKn2Tj6OHSs", "session:*"),
        ("session:bWStqru0iGtMiYhKtxf9P43ttSKL5sxAxP65-e63iNk:cart", "session:*:cart"),
        ("hV3k-9Qd_2xWmZ7aYb1cT", "*"),
        ("event:01ARZ3NDEKTSV4RRFFQ69G5FAV", "event:*"),
        ("Daily_Report_Ada_Lovelace", "Daily_Report_Ada_Lovelace"),
        ("Export-2024-01-15T10-22-33", "Export-*-*-15T10-*-*"),
        ("obj:WZZU6RORIXQXK3FFGUSGJJOQDQ", "obj:*"),
        ("obj:mmqnbz3qpvfykbheah2m", "obj:*"),
        ("cache:ShoppingCartServiceState", "cache:ShoppingCartServiceState"),
        ("cache:shoppingcartservicestate2", "cache:shoppingcartservicestate2"),
        (b"\xff:1", "\\xff:*"),
    ],
)
def test_a_key_pattern_has_no_ids(key: str | bytes, expected: str) -> None:
    """Digits, UUIDs and random tokens go, words stay."""
    assert pattern(key) == expected


def test_text_is_str_where_it_can_be() -> None:
    assert text("grüße".encode()) == "grüße"
    assert text(b"\xff") == b"\xff"


@pytest.mark.parametrize(
    ("kind", "replies", "value"),
    [
        (b"string", [b"1"], "1"),
        (b"list", [[b"b", b"a"]], ["b", "a"]),
        (b"set", [[b"b", b"a"]], ["a", "b"]),
        (b"hash", [[b"b", b"2", b"a", b"\xff"]], {"a": b"\xff", "b": "2"}),
        (b"zset", [[b"m", b"1.5"]], [["m", 1.5]]),
        (b"stream", [[[b"1-0", [b"f", b"v"]]], []], [[Opaque("1-0"), {"f": "v"}]]),
        (b"ReJSON-RL", [b'{"a": 1}'], {"a": 1}),
    ],
)
def test_values_are_plain_python(kind: bytes, replies: list[Any], value: Any) -> None:
    assert content(kind, replies, b"") == {"value": value}


def test_stream_groups_count_what_is_pending_and_what_is_not_delivered() -> None:
    group = [b"name", b"g", b"consumers", 1, b"pending", 1, b"last-delivered-id", b"1-0"]
    fields = content(b"stream", [[[b"1-0", []], [b"2-0", []]], [group]], b"")
    assert fields["groups"] == {"g": {"pending": 1, "undelivered": 1}}


def test_a_hyperloglog_does_not_change_by_being_counted() -> None:
    """PFCOUNT writes its result into bytes 8 to 15 of the value."""
    value = b"HYLL\x01\x00\x00\x00" + b"%b" + b"registers"
    assert content(b"string", [value % b"12345678"], b"") == content(b"string", [value % b"87654321"], b"")


def test_unknown_types_differ_by_their_dump() -> None:
    assert content(b"MBbloom--", [], b"a") != content(b"MBbloom--", [], b"b")


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (("set", "k", 1), "SET"),
        ((b"GET", "k"), "GET"),
        (("XGROUP CREATE", "s", "g"), "XGROUP-CREATE"),
        (("xgroup", "create", "s", "g"), "XGROUP-CREATE"),
        (("SCRIPT LOAD", "return 1"), "SCRIPT-LOAD"),
    ],
)
def test_names_of_commands(args: tuple[Any, ...], name: str) -> None:
    assert name_of(args) == name


@pytest.mark.parametrize(
    ("args", "read"),
    [
        (("GET", "k"), True),
        (("GETEX", "k", "EX", 1), False),
        (("SORT", "k"), True),
        (("SORT", "k", "STORE", "d"), False),
        (("GEORADIUS", "k", 1, 1, 1, "m", "STOREDIST", "d"), False),
        (("BITFIELD", "k", "SET", "u8", 0, 1), False),
        (("EVALSHA", "abc", 0), False),
        (("XINFO", "STREAM", "s"), True),
        (("SOMETHING.NEW", "k"), False),
    ],
)
def test_reads_are_known_and_all_else_writes(args: tuple[Any, ...], read: bool) -> None:
    assert is_read(name_of(args), args) is read


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (("BLPOP", "a", "b", 5), 5.0),
        (("BLMPOP", 0.5, 1, "a", "LEFT"), 0.5),
        (("XREAD", "COUNT", 1, "BLOCK", 1500, "STREAMS", "s", "$"), 1.5),
        (("XREAD", "STREAMS", "BLOCK", "0"), None),
        (("LPOP", "a"), None),
    ],
)
def test_how_long_a_command_may_wait(args: tuple[Any, ...], seconds: float | None) -> None:
    assert block_seconds(name_of(args), args) == seconds


def test_details_are_short_and_keep_secrets() -> None:
    assert detail("SET", ("SET", "email_sent:1", "true", "EX", 604800)) == "SET email_sent:1 true EX 604800"
    assert len(detail("SET", ("SET", "k", "x" * 1000))) < 60
    assert "secret" not in detail("CONFIG-SET", ("CONFIG SET", "requirepass", "secret"))
    assert short([b"a", None, {"b": 1}]) == "[a, None, {b: 1}]"
    assert "\n" not in short("a\nb")


class _Pool:
    def __init__(self, **settings: Any) -> None:
        self.connection_kwargs = settings
        self.connection_class = object


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"host": "127.0.0.1", "port": 6380, "db": 2}, Address("localhost", 6380, 2)),
        ({}, Address("localhost", 6379, 0)),
        ({"path": "/run/redis.sock"}, Address("/run/redis.sock", None, 0)),
        ({"host": "Cache.example.org", "db": "3"}, Address("cache.example.org", 6379, 3)),
    ],
)
def test_addresses(settings: dict[str, Any], address: Address) -> None:
    assert Address.of(_Pool(**settings)) == address


@pytest.mark.parametrize(
    "name",
    [
        "redis",
        "redis:6379",
        "redis:6379/1",
        "redis://redis",
        "redis://:secret@redis:6379/1",
        "rediss://user:secret@REDIS:6379/1?ssl_cert_reqs=none",
        "redi*",
    ],
)
def test_a_remote_database_is_allowed_by_name(name: str) -> None:
    Address("redis", 6379, 1).check_permission(called="cache", allow=(name,))


@pytest.mark.parametrize("name", ["other", "redis:6380", "redis://redis:6379/2", ""])
def test_another_name_does_not_allow_it(name: str) -> None:
    with pytest.raises(Unusable, match="cache is the Redis database redis:6379/1 on another host"):
        Address("redis", 6379, 1).check_permission(called="cache", allow=(name,))


def test_other_values_are_not_adopted() -> None:
    """Also what merely looks alike: pipelines, a mock."""
    redis = pytest.importorskip("redis")
    asynchronous = pytest.importorskip("redis.asyncio")
    adapter = RedisAdapter()
    pipelines = [redis.Redis().pipeline(), asynchronous.Redis().pipeline()]
    others = [1, "redis://localhost", object(), MagicMock(), *pipelines]
    assert [adapter.adopt("x", value, Options()) for value in others] == [None] * len(others)
