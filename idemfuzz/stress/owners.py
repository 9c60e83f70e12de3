"""Whose difference it is: a row, key or call of the end state belongs to the job whose arguments stand in it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from idemfuzz.checkers import Noise
from idemfuzz.model import Difference, Fact

__all__ = ["Arguments", "Owners"]

_TEXT_LENGTH_MIN = 3
Arguments = Callable[[int], tuple[tuple[Any, ...], Mapping[str, Any]]]


class Owners:
    """Finds the job that a fact belongs to, by the values of its arguments."""

    def __init__(self, arguments: Arguments, numbers: Sequence[int], noise: Noise) -> None:
        self.numbers = numbers
        self._noise = noise
        words: dict[str, set[int]] = defaultdict(set)
        for number in numbers:
            args, kwargs = arguments(number)
            for leaf in _leaves([*args, *kwargs.values()]):
                words[leaf].add(number)
        # Only what tells jobs apart.
        self._words = {word: owners for word, owners in words.items() if len(owners) < max(2, len(numbers))}
        self._any_word = re.compile(
            rf"(?<![A-Za-z0-9])(?:{_any_of(filter(None, self._words))})(?![A-Za-z0-9])"
        )
        self._any_part = re.compile(_any_of(word for word in self._words if len(word) >= _TEXT_LENGTH_MIN))

    def of(self, difference: Difference) -> int | None:
        """The job that a difference belongs to; None if it is nobody's, or several have as good a claim.

        What names the thing (a Redis key) says more than what is in it, a whole value more than a word in it, and a word more
        than a part of one.
        """
        if len(self.numbers) == 1:
            return self.numbers[0]
        facts = [fact for fact in (difference.actual, difference.expected) if fact is not None]
        # A value that has changed, as that of a counter, says nothing of whose it is.
        everything = set.intersection(*(set(_leaves(self._telling(fact))) for fact in facts))
        named = set.intersection(*(set(_leaves(self._telling(fact, fact.identity))) for fact in facts))
        for claims, leaves in (
            (self._whole, named),
            (self._as_word, named),
            (self._whole, everything),
            (self._as_word, everything),
            (self._as_part, named),
            (self._as_part, everything),
        ):
            best = claims(leaves).most_common(2)
            if len(best) == 1 or (best and best[0][1] > best[1][1]):
                return best[0][0]
        return None

    def _whole(self, leaves: Iterable[str]) -> Counter[int]:
        return Counter(owner for leaf in leaves for owner in self._words.get(leaf, ()))

    def _as_word(self, leaves: Iterable[str]) -> Counter[int]:
        return self._whole(word for leaf in leaves for word in self._any_word.findall(leaf))

    def _as_part(self, leaves: Iterable[str]) -> Counter[int]:
        return self._whole(word for leaf in leaves for word in self._any_part.findall(leaf))

    def _telling(self, fact: Fact, names: Iterable[str] | None = None) -> list[Any]:
        """The values that are not made up: an id that is handed out is sure to be some job's argument, too."""
        return [
            value
            for name, value in fact.fields.items()
            if (names is None or name in names)
            and fact.generated.get(name) != fact.group
            and self._noise.trait((fact.store, fact.group, name, "")) is None
        ]


def _any_of(words: Iterable[str]) -> str:
    """Where one begins like another, the longer one is meant."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)"


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
