"""How `idemfuzz inventory` recognises Celery's tasks in source text."""

from __future__ import annotations

from idemfuzz.inventory import JobSource

__all__ = ["CELERY"]

CELERY = JobSource(
    "celery",
    ("celery",),
    (
        r"celery\.(\w+\.)*shared_task",
        # An application made here (`app = Celery(...)`), wherever it is imported from.
        r"celery\.(\w+\.)*Celery\(\)\.task",
        # One that is made out of sight.
        r"(\w+\.)*(celery|celery_app|app)\.task",
    ),
    bases=(r"celery\.(\w+\.)*Task", r"celery\.(\w+\.)*Celery\(\)\.Task"),
)
"""Decorated functions, and subclasses of ``Task`` by their ``run``."""
