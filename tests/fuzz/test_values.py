"""Plain values survive the way through JSON; what is none is refused, and a file makes no code run."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemfuzz.model import Example, ValueFormError, decode, encode


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Line:
    sku: str
    prices: tuple[decimal.Decimal, ...]


class Pair(NamedTuple):
    one: int
    other: Any


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.times()
    | st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.just(Colour.RED)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
        | st.frozensets(st.text(), max_size=3)
        | st.builds(Pair, st.integers(), inner)
        | st.builds(Line, st.text(), st.tuples(st.decimals(allow_nan=False)))
    ),
    max_leaves=6,
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    again = decode(json.loads(json.dumps(encode(value))))
    assert again == value
    assert type(again) is type(value)


@given(st.lists(VALUES, max_size=2), VALUES)
def test_an_example_comes_back_as_it_was(args: list[Any], state: Any) -> None:
    example = Example(tuple(args), {"a": state}, state)
    assert Example.from_json(json.loads(json.dumps(example.to_json()))) == example


def test_not_a_number_and_a_dollar_key() -> None:
    assert repr(decode(encode(float("nan")))) == "nan"
    assert decode(encode({"$tuple": 1})) == {"$tuple": 1}


@pytest.mark.parametrize("value", [object(), lambda: None, [open], type])
def test_what_is_no_plain_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueFormError, match="has no JSON form"):
        encode(value)


@pytest.mark.parametrize(
    "data",
    [
        {"$object": ["os:system", {"command": "true"}]},
        {"$object": ["subprocess:Popen", {"args": "true"}]},
        {"$object": ["no_such_module:Thing", {}]},
        {"$enum": ["builtins:int", "real"]},
        {"$what": 1},
        {"$tuple": [], "more": 1},
        {"$date": "tomorrow"},
        {"$uuid": 5},
    ],
)
def test_a_form_that_is_none_of_ours_is_refused(data: Any) -> None:
    """Goal: reading makes nothing but plain values. Method: callables, other classes, unknown and broken tags."""
    with pytest.raises(ValueFormError):
        decode(data)


def test_uuid_and_enum_are_readable() -> None:
    assert encode(uuid.UUID(int=1)) == {"$uuid": "00000000-0000-0000-0000-000000000001"}
    assert encode(Colour.RED)["$enum"][1] == "RED"
