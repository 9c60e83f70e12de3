"""What a stress run asks of the queue to know that it is over, on a real server."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from idemfuzz.adapters.rq_messages import RqMessages


@pytest.mark.parametrize("redis_client", ["redis"], indirect=True)
def test_a_message_on_its_way_is_never_counted_nowhere(redis_client: Any) -> None:
    """Goal: a redelivery is one transaction of RQ's, from the started registry to the queue: who counts meanwhile sees it in
    one of them. Else the run ends there, and a right job was never done. Method: a message goes to and fro."""
    options = redis_client.connection_pool.connection_kwargs
    url = f"redis://{options.get('host', '127.0.0.1')}:{options['port']}/{options.get('db', 0)}"
    messages = RqMessages(url, ["default"])
    stop = threading.Event()
    redis_client.zadd("rq:wip:default", {"job:1": 1})

    def move() -> None:
        while not stop.is_set():
            redis_client.pipeline().rpush("rq:queue:default", "job").zrem("rq:wip:default", "job:1").execute()
            redis_client.pipeline().zadd("rq:wip:default", {"job:1": 1}).lpop("rq:queue:default").execute()

    mover = threading.Thread(target=move)
    mover.start()
    try:
        seen = {messages.waiting_and_leased() for _ in range(2_000)}
    finally:
        stop.set()
        mover.join()
    assert seen == {(0, 1), (1, 0)}
