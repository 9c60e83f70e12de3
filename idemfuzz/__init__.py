"""idemfuzz: what happens if this job runs twice?

`register` and `check` are the Python front end; `@pytest.mark.idempotent` and the ``deliver`` fixture come with the
pytest plugin; ``idemfuzz`` is the command line. Everything is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from idemfuzz.abc import Unusable
    from idemfuzz.api import check, register
    from idemfuzz.model import Finding, Plan, Report, Verdict
    from idemfuzz.session import ScenarioFailed

__all__ = [
    "Finding",
    "Plan",
    "Report",
    "ScenarioFailed",
    "Unusable",
    "Verdict",
    "__version__",
    "check",
    "register",
]

_HOMES = {
    "Finding": "idemfuzz.model",
    "Plan": "idemfuzz.model",
    "Report": "idemfuzz.model",
    "ScenarioFailed": "idemfuzz.session",
    "Unusable": "idemfuzz.abc",
    "Verdict": "idemfuzz.model",
    "check": "idemfuzz.api",
    "register": "idemfuzz.api",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'idemfuzz' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
