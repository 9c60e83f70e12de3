"""From a Problem to a Finding: the code's meaning, the cause in this queue, the remedy."""

from idemfuzz.diagnose.codes import CODES, Code
from idemfuzz.diagnose.explain import cause_of, notes_of_strangers, source_of, summary_of

__all__ = ["CODES", "Code", "cause_of", "notes_of_strangers", "source_of", "summary_of"]
