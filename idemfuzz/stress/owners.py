"""Whose difference it is: a row, key or call of the end state belongs to the job whose arguments stand in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    def of(self, difference: Difference) -> int | None:
        if len(self.numbers) == 1:
            return self.numbers[0]
        votes: Counter[int] = Counter()
        facts = [fact for fact in (difference.actual, difference.expected) if fact is not None]
        # A value that has changed, as that of a counter, says nothing of whose it is.
        leaves = set.intersection(*(set(_leaves(self._telling(fact))) for fact in facts))
        for leaf in leaves:
            for owner in self._words.get(leaf, ()):
                votes[owner] += 2
        if not votes:
            for word, owners in self._words.items():
                if len(word) >= _TEXT_LENGTH_MIN and any(word in leaf for leaf in leaves):
                    votes.update(owners)
        best = votes.most_common(2)
        if not best or (len(best) == 2 and best[0][1] == best[1][1]):
            return None
        return best[0][0]

    def _telling(self, fact: Fact) -> list[Any]:
        """The values that are not made up: an id that is handed out is sure to be some job's argument, too."""
        return [
            value
            for name, value in fact.fields.items()
            if fact.generated.get(name) != fact.group
            and self._noise.trait((fact.store, fact.group, name, "")) is None
        ]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
