"""The inventory of an application's jobs: read from its source, joined with the verdicts of its tests.

Nothing of the application is imported for it, unless that is asked for.
"""

from idemfuzz.inventory.jobs import RQ, Enqueued, Job, JobSource, found_jobs
from idemfuzz.inventory.listing import Entry, Inventory, take_inventory
from idemfuzz.inventory.source import Sources
from idemfuzz.inventory.verdicts import Verdicts

__all__ = [
    "RQ",
    "Enqueued",
    "Entry",
    "Inventory",
    "Job",
    "JobSource",
    "Sources",
    "Verdicts",
    "found_jobs",
    "take_inventory",
]
