"""The stores of a run: found among values, refused if only this process can see them, opened and closed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from idemfuzz.abc import Options, Store, Unusable
from idemfuzz.adapters import load_adapters
from idemfuzz.engine import TrialGate
from idemfuzz.engine.claims import Claims

__all__ = ["adopted", "claimed", "closed", "opened"]


def adopted(values: Mapping[str, object], options: Options) -> list[Store]:
    """The stores among ``values``.

    Raises:
        Unusable: there is none, or one of them lives in this process.
    """
    adapters = load_adapters()
    stores: list[Store] = []
    for name, value in values.items():
        for adapter in adapters:
            adopt = getattr(adapter, "adopt", None)
            store = None if adopt is None else adopt(name, value, options)
            if store is not None:
                if not any(known.identity == store.identity for known in stores):
                    stores.append(store)
                break
    inside = [store for store in stores if getattr(store, "in_process", False)]
    if inside:
        raise Unusable(
            f"{', '.join(repr(store.name) for store in inside)} lives in this process: a worker process would have one of its "
            "own. Use a server, or SQLite in a file; under `idemfuzz stress` the module can read DATABASE_URL and REDIS_URL"
        )
    if not stores:
        raise Unusable(
            "there is no store that could be judged: register the job with stores=[engine, redis], or let its module hold "
            "them as globals"
        )
    return stores


@contextmanager
def claimed(stores: Sequence[Store], *, redis: str | None = None) -> Iterator[None]:
    """Nobody else's search or run has these stores, nor the queue's Redis at the URL ``redis``, while the block lasts.

    Raises:
        Unusable: somebody has one now. A search waits; here, who has started two is told so.
    """
    claims = Claims()
    try:
        claims.take(stores, wait_seconds_max=0.0)
        if redis is not None:
            from idemfuzz.adapters.redis.given import place_of

            claims.take_places({place_of(redis): "the queue's Redis"}, wait_seconds_max=0.0)
        yield
    finally:
        claims.give_up()


def opened(stores: Sequence[Store]) -> list[Store]:
    """Open all of them, or none.

    Raises:
        Unusable: one is refused.
    """
    done: list[Store] = []
    gate = TrialGate()
    try:
        for store in stores:
            store.open(gate)
            done.append(store)
    except BaseException:
        closed(done)
        raise
    return done


def closed(stores: Sequence[Store]) -> None:
    """Leave the baseline behind, and close."""
    for store in reversed(stores):
        with suppress(Exception):
            store.changes()
            store.restore()
        store.close()
