"""The oracle: is a Trial's end state the Reference's, modulo learned noise, and if not, what is wrong with it?"""

from idemfuzz.checkers.noise import Noise, Span
from idemfuzz.checkers.sameness import Comparison, State, compare
from idemfuzz.checkers.verdicts import Judgement, Observed, Problem, judge, strip

__all__ = [
    "Comparison",
    "Judgement",
    "Noise",
    "Observed",
    "Problem",
    "Span",
    "State",
    "compare",
    "judge",
    "strip",
]
