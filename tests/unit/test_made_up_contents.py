"""Made-up values inside contents hide nothing beside them: in texts, keys of JSON, packed bytes and pickles."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import uuid
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from idemfuzz.checkers import Noise, Span, State, compare
from idemfuzz.checkers.packed import unpacked, unpacked_text
from idemfuzz.model import Delta, Fact, FactKind

SPAN, LATER = Span(1_800_000_000.0, 1_800_000_005.0), Span(1_800_000_060.0, 1_800_000_065.0)


def _fact(value: Any) -> Fact:
    return Fact("db", FactKind.ROW, "things", {"name": "a", "value": value}, ("name",))


def _differs(noise: Noise, one: Any, other: Any) -> bool:
    states = [State(Delta((_fact(value),), ()), SPAN) for value in (one, other)]
    return bool(compare(states[0], states[1], noise).differences)


def _zip(files: dict[str, str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def _id() -> str:
    return str(uuid.uuid4())


HIDDEN: dict[str, tuple[Callable[[str], Any], Callable[[str], Any]]] = {
    "a line put behind a text": (lambda c: f"{c};", lambda c: f"{c};{c[::-1]};"),
    "a word put behind a token": (lambda c: f"by {c}x7q", lambda c: f"by {c}x7q{c[::-1]}"),
    "a balance before a token": (lambda c: f"left=70 rev={c}", lambda c: f"left=40 rev={c}"),
    "a balance behind a token": (lambda c: f"rev={c} left=70", lambda c: f"rev={c} left=40"),
    "a counter beside a made-up key": (lambda c: {"n": 1, _id(): "x"}, lambda c: {"n": 2, _id(): "x"}),
    "a name beside a made-up key": (lambda c: {"paid": 1, _id(): 1}, lambda c: {"lost": 1, _id(): 1}),
    "a list in gzip": (
        lambda c: gzip.compress(json.dumps([_id()]).encode()),
        lambda c: gzip.compress(json.dumps([_id(), _id()]).encode()),
    ),
    "a member put behind gzip": (
        lambda c: gzip.compress(_id().encode()),
        lambda c: gzip.compress(_id().encode()) + gzip.compress(_id().encode()),
    ),
    "a counter in zlib": (
        lambda c: zlib.compress(f'{{"n": 1, "id": "{_id()}"}}'.encode()),
        lambda c: zlib.compress(f'{{"n": 2, "id": "{_id()}"}}'.encode()),
    ),
    "a file in an archive": (lambda c: _zip({_id(): "x"}), lambda c: _zip({_id(): "x", _id(): "x"})),
    "a counter in a pickle": (
        lambda c: pickle.dumps({"n": 1, "id": uuid.uuid4()}),
        lambda c: pickle.dumps({"n": 2, "id": uuid.uuid4()}),
    ),
    "a list in base64": (
        lambda c: base64.b64encode(json.dumps([_id()]).encode()).decode(),
        lambda c: base64.b64encode(json.dumps([_id(), _id()]).encode()).decode(),
    ),
    "JSON in bytes": (
        lambda c: json.dumps({"n": 1, "id": _id()}).encode(),
        lambda c: json.dumps({"n": 2, "id": _id()}).encode(),
    ),
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_stands_beside_a_made_up_value_counts(what: str) -> None:
    once, twice = HIDDEN[what]
    noise = Noise()
    assert noise.learn([_fact(once("a1b2c3"))], [_fact(once("9f3e2d"))], SPAN, LATER)
    # What confirming looks at: runs of the plan that shows it.
    assert _differs(noise, once("a1b2c3"), twice("4c5d6e"))
    assert noise.learn([_fact(twice("77aa88"))], [_fact(twice("0b1c2d"))], SPAN, LATER)
    assert _differs(noise, once("a1b2c3"), twice("4c5d6e"))
    assert not _differs(noise, once("a1b2c3"), once("5e6f70"))


@pytest.mark.parametrize(
    ("one", "other", "later"),
    [
        # A duration is longer in a plan in which time passes; a month has another name.
        ("took 3.14s", "took 2.72s", "took 300.01s"),
        ("on 30 September at 17", "on 1 October at 18", "on 2 May at 4"),
        ("Sun Nov 29 23:24:23 2026", "Mon Nov 30 23:24:23 2026", "Tue Dec  1 23:24:23 2026"),
        ("by Ada", "by Grace", "by Constantin"),
    ],
)
def test_words_that_are_made_up_may_be_longer(one: str, other: str, later: str) -> None:
    noise = Noise()
    assert noise.learn([_fact(one)], [_fact(other)], SPAN, LATER)
    assert not _differs(noise, one, later)


class _Trap:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('a pickle was carried out')",))


def test_pickle_is_read_and_never_carried_out() -> None:
    assert "raise SystemExit('a pickle was carried out')" in unpacked(pickle.dumps(_Trap())).values()


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8bnot gzip",
        gzip.compress(b"cut off", mtime=0)[:-3],
        b"PK\x03\x04 no archive",
        b"\x80\x05 no pickle.",
        b"\x00\xff",
        gzip.compress(b"0" * 10_000_000, mtime=0),
    ],
)
def test_bytes_that_only_look_packed_are_bytes(content: bytes) -> None:
    assert unpacked(content) is None


def test_words_are_no_base64() -> None:
    assert unpacked_text("username") is None
    assert unpacked_text("") is None
    assert unpacked_text("eyJhIjogMX0=") == '{"a": 1}'
