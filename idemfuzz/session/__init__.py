"""One search: what explorers propose is run on the stage, judged, made small, confirmed and told; every front end uses it.

session       from set-up to report
oracle        the reference, what is noise, what a trial shows against it
exploring     explorers at work
confirming    what they came upon, made small and run again
proving       the same search with other guards
certifying    what may be claimed
ending        what SIGTERM does to a search
"""

from idemfuzz.session.progress import Listener, Progress, ScenarioFailed
from idemfuzz.session.session import Session

__all__ = ["Listener", "Progress", "ScenarioFailed", "Session"]
