"""The engine: the gate, the trial that runs a Plan, the clock, and the interception of calls."""

from idemfuzz.engine.gate import TrialGate
from idemfuzz.engine.intercept import Interception
from idemfuzz.engine.trial import Trial, TrialResult

__all__ = ["Interception", "Trial", "TrialGate", "TrialResult"]
