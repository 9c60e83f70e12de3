"""What an `rq worker` of a stress run imports: watched worker classes, and the witness that watches this process."""

from __future__ import annotations

from contextlib import suppress

import idemfuzz.api  # noqa: F401 - A job's module registers it: imported before the fork, so that no horse pays for it.
from idemfuzz.adapters import rq_worker
from idemfuzz.adapters.aws import AwsTap
from idemfuzz.adapters.http import HttpTap
from idemfuzz.adapters.mail import MailTap
from idemfuzz.adapters.redis.witness import RedisWitness
from idemfuzz.stress.witness import install

__all__ = ["ForkingWorker", "SimpleWorker", "SpawnWorker"]

_gate, _orders = install()
rq_worker.watch(_gate, _orders)
RedisWitness(_gate, _orders.names).attach()
MailTap().attach(_gate, {})
HttpTap().attach(_gate, {})
AwsTap().attach(_gate, {})
with suppress(ImportError):
    from idemfuzz.adapters.sqlalchemy.witness import EngineWitness

    EngineWitness(_gate, _orders.names).attach()


class ForkingWorker(rq_worker.ForkingWorker):
    """Importable by name in each horse."""


class SimpleWorker(rq_worker.SimpleWorker):
    """The same."""


class SpawnWorker(rq_worker.SpawnWorker):
    """The same."""
