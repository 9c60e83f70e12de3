"""RQ's own workers, unwatched, for the stress benchmarks.

What a watched worker has imported is imported here, too, before the worker forks: no horse pays for it.
"""

from __future__ import annotations

import rq.worker

from idemfuzz import api, session
from idemfuzz.adapters import rq_worker
from idemfuzz.adapters.redis import witness as redis_witness
from idemfuzz.adapters.sqlalchemy import witness as sql_witness

_IMPORTED = (api, session, rq_worker, redis_witness, sql_witness)


class Worker(rq.worker.Worker):
    """RQ's own. As this module is imported before it forks, no horse pays for importing SQLAlchemy."""


class SimpleWorker(rq.worker.SimpleWorker):
    """RQ's own."""
