"""Texts with a made-up word in them, which falls into other pieces each time: what stays around it, and what it has always had."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, replace

_BETWEEN = re.compile(r"[A-Za-z0-9_+/=.~%$-]+")
_WORD = re.compile(r"[A-Za-z0-9_]+\Z")
_DIGITS = re.compile(r"\d+[A-Za-z]*(?!\w)")
_HALF = re.compile(r"(?:\d+[.:,])+\Z")
_SPACE = re.compile(r"\s+")
_CODE = re.compile(r"(?=\w*\d)(?=\w*[A-Za-z])\w{6,}")


@dataclass(frozen=True, slots=True)
class Frame:
    """What two runs of one Plan have in common of a text: its head and its tail. Between them anything may stand.

    What stands there still counts by its extent: one more word, or one more line, is no other token.
    """

    head: str
    tail: str
    signs: bool
    """Whether the middle had the same signs and spaces between its words."""
    length: bool
    """Whether the middle was a code (a token, no duration and no date in words), as long in both."""

    @classmethod
    def between(cls, one: str, other: str) -> Frame:
        frame = cls(_start(one, other), _start(one[::-1], other[::-1])[::-1], signs=True, length=True)
        if not (frame.fits(one) and frame.fits(other)):
            # They overlap, as in "a-b-" and "a-": what stands at the end is in the middle, then.
            frame = replace(frame, tail="")
        return frame.seen(one, other)

    @property
    def stays(self) -> str:
        return self.head + self.tail

    @property
    def width(self) -> int:
        """How much of a text stays."""
        return len(self.stays)

    def fits(self, text: str) -> bool:
        room = len(text) >= self.width
        return room and text.startswith(self.head) and text.endswith(self.tail)

    def middle(self, text: str) -> str:
        return text[len(self.head) : len(text) - len(self.tail)]

    def extent(self, text: str) -> Hashable:
        """What of the middle counts."""
        middle = self.middle(text)
        return (_signs(middle) if self.signs else None, len(middle) if self.length else None)

    def seen(self, one: str, other: str) -> Frame:
        """The frame without what these two, from runs of one Plan, show to be made up, too."""
        a, b = self.middle(one), self.middle(other)
        return replace(
            self,
            signs=self.signs and _signs(a) == _signs(b),
            length=self.length and len(a) == len(b) and _is_code(a, b),
        )

    def within(self, other: Frame) -> bool:
        """Whether each text that fits this one fits the other, too."""
        return self.head.startswith(other.head) and self.tail.endswith(other.tail)


Frames = tuple[Frame, ...]
"""Several where Plans leave other texts: what stays beside the made-up word may be another balance."""


def frame_of(frames: Frames, text: str) -> Frame | None:
    """The widest frame that a text fits."""
    fitting = [frame for frame in frames if frame.fits(text)]
    return min(fitting, key=lambda frame: frame.width, default=None)


def learned(frames: Frames, one: str, other: str) -> Frames:
    """The frames after two more texts, from runs of one Plan."""
    known = next((frame for frame in frames if frame.fits(one) and frame.fits(other)), None)
    if known is not None:
        return tuple(frame.seen(one, other) if frame is known else frame for frame in frames)
    new = Frame.between(one, other)
    return (*(frame for frame in frames if not frame.within(new)), new)


def _signs(middle: str) -> str:
    return _SPACE.sub(" ", _BETWEEN.sub("x", middle))


def _is_code(one: str, other: str) -> bool:
    """Whether codes are all in which these differ: a duration beside one may be a digit longer."""
    letters = [set(re.sub(r"[^A-Za-z]", "", text)) for text in (one, other)]
    has_codes = letters[0] != letters[1] and all(_CODE.search(text) for text in (one, other))
    return has_codes and _CODE.sub("", one) == _CODE.sub("", other)


def _start(one: str, other: str) -> str:
    """What two texts begin with, cut back to the end of a word or number that both have whole."""
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    common = min(one, other, key=len) if length is None else one[:length]
    whole = _WORD.sub("", common)
    if all(_DIGITS.match(text, len(whole)) for text in (one, other)):
        # Digits that both have by chance, as the minute of two times or, read from behind, a decimal: half of a number does not stay.
        whole = _WORD.sub("", _HALF.sub("", whole))
    return whole
