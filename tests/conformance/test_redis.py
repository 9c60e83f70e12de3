"""The Redis adapter on fakeredis and on a real server: capture, restore, and every command an Effect."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from idemfuzz import servers
from idemfuzz.abc import JobCall, Options, Unusable
from idemfuzz.adapters.redis import RedisAdapter, RedisStore, exclude_keys
from idemfuzz.engine import Trial, TrialGate
from idemfuzz.engine.clock import Clock
from idemfuzz.engine.execution import here
from idemfuzz.model import (
    Access,
    Delta,
    Fault,
    FaultKind,
    Opaque,
    Plan,
    Point,
    Segment,
    Side,
)

redis = pytest.importorskip("redis")


@pytest.fixture
def store(redis_client: Any) -> Iterator[RedisStore]:
    """The adapter's store on an empty database, not yet open."""
    store = RedisAdapter().adopt("redis", redis_client, Options())
    assert store is not None
    yield store
    store.close()


class Runner:
    """Runs a job under plans, as a session does."""

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.gate = TrialGate()
        self.last: Any = None
        self.error: BaseException | None = None

    def run(self, body: Callable[[], Any], plan: Plan | None = None) -> Any:
        """What the call returned; ``last`` is the Trial's result, ``error`` what was raised."""
        clock = Clock(lambda: here.execution, self._pause)
        self.trial = Trial(plan or Plan(), Options(timeout=10, redelivery_window=60), [self.store], clock)
        clock.install()
        self.error = None
        try:
            return self.trial.deliver(JobCall("job", lambda identity, delivery: body()))
        except Exception as error:
            self.error = error
            return None
        finally:
            clock.uninstall()
            self.last = self.trial.result()

    def _pause(self, seconds: float, polls: bool) -> None:
        assert here.execution is not None
        self.trial.pause(here.execution, seconds, polls=polls)

    def labels(self) -> list[str]:
        return [event.effect.label for event in self.last.history.effects]


@pytest.fixture
def runner(store: RedisStore) -> Runner:
    runner = Runner(store)
    store.open(runner.gate)
    return runner


def fault(kind: FaultKind, label: str, side: Side, occurrence: int = 1, delivery: int = 1) -> Plan:
    return Plan(faults=(Fault(kind, Point(1, delivery, label, occurrence), side),))


def added(delta: Delta) -> dict[Any, Any]:
    return {fact.fields["key"]: fact.fields["value"] for fact in delta.added}


def dumped(client: Any) -> dict[bytes, tuple[Any, bool]]:
    """Every key with its serialised value and whether it expires."""
    return {key: (client.dump(key), client.pttl(key) >= 0) for key in client.scan_iter()}


def fill(client: Any) -> None:
    """Keys of every type."""
    client.set("string", "1")
    client.set(b"bytes\xff", b"\xff")
    client.set("expiring", "x", ex=1000)
    client.rpush("list", "a", "b")
    client.sadd("set", "a", "b")
    client.sadd("ints", *range(5))
    client.hset("hash", mapping={"a": "1", "b": "2"})
    client.zadd("zset", {"a": 1, "b": 2.5})
    client.xadd("stream", {"f": "v"})
    client.xgroup_create("stream", "group", "0")
    client.pfadd("hll", "a", "b")
    client.setbit("bits", 7, 1)


# What a job may do to what `fill` left, one command each: the keys that then differ.
WRITES: list[tuple[str, Callable[[Any], Any], set[Any]]] = [
    ("set", lambda r: r.set("string", "2"), {"string"}),
    ("append", lambda r: r.append("string", "2"), {"string"}),
    ("other type", lambda r: (r.delete("string"), r.rpush("string", 1)), {"string"}),
    ("bytes", lambda r: r.set(b"bytes\xff", b"\xfe"), {b"bytes\xff"}),
    ("ttl added", lambda r: r.expire("string", 100), {"string"}),
    ("ttl removed", lambda r: r.persist("expiring"), {"expiring"}),
    ("set drops ttl", lambda r: r.set("expiring", "x"), {"expiring"}),
    ("list push", lambda r: r.lpush("list", "z"), {"list"}),
    ("list pop", lambda r: r.rpop("list"), {"list"}),
    ("list gone", lambda r: r.ltrim("list", 5, 6), {"list"}),
    ("set add", lambda r: r.sadd("set", "c"), {"set"}),
    ("set int", lambda r: r.srem("ints", 3), {"ints"}),
    ("hash", lambda r: r.hincrby("hash", "a", 1), {"hash"}),
    ("hash del", lambda r: r.hdel("hash", "a"), {"hash"}),
    ("zset", lambda r: r.zincrby("zset", 1, "a"), {"zset"}),
    ("xadd", lambda r: r.xadd("stream", {"f": "w"}), {"stream"}),
    ("xreadgroup", lambda r: r.xreadgroup("group", "c", {"stream": ">"}), {"stream"}),
    ("xgroup create", lambda r: r.xgroup_create("stream", "other", "$"), {"stream"}),
    ("xgroup destroy", lambda r: r.xgroup_destroy("stream", "group"), {"stream"}),
    ("new stream", lambda r: r.xgroup_create("s2", "g", mkstream=True), {"s2"}),
    ("pfadd", lambda r: r.pfadd("hll", "c", "d"), {"hll"}),
    ("bits", lambda r: r.setbit("bits", 6, 1), {"bits"}),
    ("geo", lambda r: r.geoadd("places", (2.3, 48.8, "paris")), {"places"}),
    ("rename", lambda r: r.rename("string", "renamed"), {"string", "renamed"}),
    ("copy", lambda r: r.copy("hash", "hash2"), {"hash2"}),
    ("move", lambda r: r.lmove("list", "list2"), {"list", "list2"}),
    ("delete", lambda r: r.unlink("string", "hash"), {"string", "hash"}),
    ("lua", lambda r: r.eval("return redis.call('SET', KEYS[1], 'lua')", 1, "lua"), {"lua"}),
    ("flush", lambda r: r.flushdb(), None),
]


@pytest.mark.parametrize(("write", "keys"), [w[1:] for w in WRITES], ids=[w[0] for w in WRITES])
def test_each_kind_of_write_is_seen_and_undone(
    redis_client: Any, store: RedisStore, write: Callable[[Any], Any], keys: set[Any] | None
) -> None:
    """Goal: changes() names exactly the keys that differ, and restore() leaves not a bit of difference.

    The writes are made outside deliveries, where nothing is tapped: as another process would make them.
    """
    _skip_unless_able(redis_client, write)
    fill(redis_client)
    before = dumped(redis_client)
    store.open(TrialGate())
    for _ in range(2):
        write(redis_client)
        delta = store.changes()
        seen = {fact.fields["key"] for fact in (*delta.added, *delta.removed)}
        assert seen == (keys if keys is not None else {fact.fields["key"] for fact in delta.removed})
        store.restore()
        assert not store.changes()
        after = dumped(redis_client)
        assert after.keys() == before.keys()
        assert {k: v[1] for k, v in after.items()} == {k: v[1] for k, v in before.items()}
    assert _contents(redis_client) == _contents_of(before, redis_client)


def _skip_unless_able(client: Any, write: Callable[[Any], Any]) -> None:
    """Old fakes do not know every command, or cannot show what they have stored."""
    fill(client)
    try:
        write(client)
        client.zrange("places", 0, -1, withscores=True, score_cast_func=str)
    except (redis.ResponseError, TypeError) as error:
        pytest.skip(f"this server cannot do it: {error}")
    finally:
        client.flushdb()


def _contents(client: Any) -> dict[bytes, Any]:
    from idemfuzz.adapters.redis.images import Kept, read
    from idemfuzz.adapters.redis.wire import Wire

    wire = Wire(client.connection_pool)
    keys = wire.one("KEYS", "*")
    kept = {key: Kept(wire.one("TYPE", key), wire.one("DUMP", key), -1) for key in keys}
    contents = read(wire, kept)
    wire.close()
    return contents


def _contents_of(dumps: dict[bytes, tuple[Any, bool]], client: Any) -> dict[bytes, Any]:
    """Method: what the dumps say when they are loaded into the emptied database."""
    client.flushdb()
    for key, (dump, _) in dumps.items():
        client.restore(key, 0, dump)
    return _contents(client)


@pytest.mark.parametrize(
    "read",
    [
        lambda r: r.get("string"),
        lambda r: r.pfcount("hll"),
        lambda r: r.lrange("list", 0, -1),
        lambda r: r.sort("list", alpha=True),
        lambda r: (r.set("tmp", 1), r.delete("tmp")),
        lambda r: (r.sadd("set", "z"), r.srem("set", "z")),
        lambda r: r.set("string", "1"),
    ],
)
def test_what_changes_nothing_is_no_change(redis_client: Any, store: RedisStore, read: Any) -> None:
    fill(redis_client)
    store.open(TrialGate())
    read(redis_client)
    assert store.changes() == Delta()
    store.restore()
    assert redis_client.get("string") == b"1"


def test_facts_have_plain_values_and_say_whether_they_expire(redis_client: Any, store: RedisStore) -> None:
    store.open(TrialGate())
    fill(redis_client)
    facts = {fact.fields["key"]: fact for fact in store.changes().added}
    values = {key: fact.fields["value"] for key, fact in facts.items() if key not in ("hll", "bits")}
    stream = values.pop("stream")
    assert values == {
        "string": "1",
        b"bytes\xff": b"\xff",
        "expiring": "x",
        "list": ["a", "b"],
        "set": ["a", "b"],
        "ints": ["0", "1", "2", "3", "4"],
        "hash": {"a": "1", "b": "2"},
        "zset": [["a", 1.0], ["b", 2.5]],
    }
    [[number, fields]] = stream
    assert isinstance(number, Opaque)
    assert fields == {"f": "v"}
    assert facts["stream"].fields["groups"] == {"group": {"pending": 0, "undelivered": 1}}
    assert facts["expiring"].expires
    assert facts["expiring"].fields["ttl"] is True
    assert not facts["string"].expires
    assert facts["zset"].fields["type"] == "zset"
    assert facts["string"].identity == ("key",)


def test_a_changed_key_stands_in_both(redis_client: Any, store: RedisStore) -> None:
    redis_client.hset("user:1", "name", "ada")
    store.open(TrialGate())
    redis_client.hset("user:1", "name", "bob")
    for _ in range(2):
        delta = store.changes()
        assert [fact.fields["value"] for fact in delta.added] == [{"name": "bob"}]
        assert [fact.fields["value"] for fact in delta.removed] == [{"name": "ada"}]
        assert delta.added[0].group == "user:*"


def test_ttls_are_restored(redis_client: Any, store: RedisStore) -> None:
    redis_client.set("a", "1", ex=1000)
    redis_client.set("b", "1", ex=1000)
    store.open(TrialGate())
    redis_client.set("a", "2", ex=5)
    redis_client.expire("b", 5)
    assert added(store.changes()) == {"a": "2"}
    store.restore()
    assert redis_client.ttl("a") > 990
    assert redis_client.ttl("b") > 990


def test_a_key_that_has_expired_comes_back(redis_client: Any, store: RedisStore) -> None:
    redis_client.set("a", "1", px=400)
    store.open(TrialGate())
    while redis_client.exists("a"):
        time.sleep(0.02)
    assert [fact.fields["key"] for fact in store.changes().removed] == ["a"]
    store.restore()
    assert redis_client.get("a") == b"1"


def test_bookkeeping_of_queues_is_restored_but_no_change(redis_client: Any, store: RedisStore) -> None:
    redis_client.set("rq:job:1", "x")
    exclude_keys("dramatiq:*")
    store.open(TrialGate())
    keys = ["rq:job:2", "_kombu.binding.celery", "celery-task-meta-1", "unacked", "dramatiq:q", "rqueue"]
    for key in keys:
        redis_client.set(key, "x")
    redis_client.delete("rq:job:1")
    assert added(store.changes()) == {"rqueue": "x"}
    store.restore()
    assert redis_client.keys() == [b"rq:job:1"]


def test_several_databases_are_several_stores(redis_client: Any, store: RedisStore) -> None:
    """Goal: a write to one database is no change of another, and each has its own effects."""
    settings = {**redis_client.connection_pool.connection_kwargs}
    with ExitStack() as life:
        if "server" in settings:
            neighbour = settings.get("db", 0) + 1
        else:
            # Claimed like every other one: a neighbouring number may be another process's.
            neighbour = redis.Redis.from_url(
                life.enter_context(servers.database("redis"))
            ).get_connection_kwargs()["db"]
        _several_databases(redis_client, store, {**settings, "db": neighbour})


def _several_databases(redis_client: Any, store: RedisStore, settings: dict[str, Any]) -> None:
    other_client = type(redis_client)(
        connection_pool=type(redis_client.connection_pool)(
            connection_class=redis_client.connection_pool.connection_class, **settings
        )
    )
    other = RedisAdapter().adopt("other", other_client, Options())
    assert other is not None
    assert other.identity != store.identity
    runner = Runner(store)
    store.open(runner.gate)
    other.open(runner.gate)
    try:
        runner.run(lambda: (redis_client.set("a", 1), other_client.set("b", 1)))
        assert runner.labels() == ["redis.SET", "other.SET"]
        assert added(store.changes()) == {"a": "1"}
        assert added(other.changes()) == {"b": "1"}
        store.restore()
        assert other_client.get("b") == b"1"
        other.restore()
        assert not other_client.exists("b")
    finally:
        other.close()
        other_client.flushdb()


def test_two_clients_of_one_database_are_one_store(redis_client: Any, store: RedisStore) -> None:
    twin = type(redis_client)(connection_pool=redis_client.connection_pool)
    adopted = RedisAdapter().adopt("twin", twin, Options())
    assert adopted is not None
    assert adopted.identity == store.identity


def test_effects_say_what_is_done_and_what_comes_of_it(redis_client: Any, runner: Runner) -> None:
    def job() -> None:
        redis_client.ping()
        redis_client.get("email_sent:1")
        redis_client.set("email_sent:1", "true", ex=604800)
        redis_client.incrby("n", 2)

    runner.run(job)
    effects = [(event.effect, event.outcome) for event in runner.last.history.effects]
    assert [(e.label, e.access, e.detail, outcome) for e, outcome in effects] == [
        ("redis.GET", Access.READ, "GET email_sent:1", "None"),
        ("redis.SET", Access.DURABLE, "SET email_sent:1 true EX 604800", "True"),
        ("redis.INCRBY", Access.DURABLE, "INCRBY n 2", "2"),
    ]
    assert effects[0][0].faults == (FaultKind.REFUSED,)
    assert set(effects[1][0].faults) == {
        FaultKind.REFUSED,
        FaultKind.LOST,
        FaultKind.RESENT,
        FaultKind.FAILOVER,
    }
    assert effects[1][0].store == "redis"
    assert effects[1][0].source is not None
    assert effects[1][0].source.file.endswith("test_redis.py")


def test_nothing_is_tapped_outside_deliveries_and_after_closing(redis_client: Any, runner: Runner) -> None:
    redis_client.set("a", 1)
    runner.store.close()
    runner.run(lambda: redis_client.set("a", 2))
    assert runner.labels() == []
    from redis.client import Pipeline, Redis

    assert not hasattr(Redis.execute_command, "__wrapped__")
    assert not hasattr(Pipeline.execute, "__wrapped__")


def test_a_transaction_is_one_effect(redis_client: Any, runner: Runner) -> None:
    def job() -> Any:
        with redis_client.pipeline() as pipe:
            return pipe.set("a", 1).incr("b").execute()

    assert runner.run(job) == [True, 1]
    [event] = runner.last.history.effects
    assert event.effect.label == "redis.MULTI"
    assert event.effect.detail == "MULTI: SET a 1; INCRBY b 1"
    assert event.outcome == "[True, 1]"


def test_each_command_of_a_pipeline_is_an_effect(redis_client: Any, runner: Runner) -> None:
    def job() -> Any:
        with redis_client.pipeline(transaction=False) as pipe:
            return pipe.set("a", 1).incr("b").execute()

    assert runner.run(job) == [True, 1]
    assert [e.effect.detail for e in runner.last.history.effects] == [
        "PIPELINE 1/2: SET a 1",
        "PIPELINE 2/2: INCRBY b 1",
    ]
    assert [e.outcome for e in runner.last.history.effects] == ["True", "1"]


def test_a_pipeline_is_cut_in_the_middle(redis_client: Any, runner: Runner) -> None:
    def job() -> Any:
        return redis_client.pipeline(transaction=False).incr("a").incr("b").execute()

    # The redelivery does all of it.
    runner.run(job, fault(FaultKind.KILL, "redis.PIPELINE", Side.AFTER))
    assert (redis_client.get("a"), redis_client.get("b")) == (b"2", b"1")


def test_errors_in_a_pipeline_come_as_redis_py_gives_them(redis_client: Any, runner: Runner) -> None:
    """All commands are sent, whatever becomes of one; then the first error is raised, or given back."""
    redis_client.set("text", "x")

    def job() -> Any:
        pipe = redis_client.pipeline(transaction=False)
        with pytest.raises(redis.ResponseError, match=r"Command # 1 \(INCRBY text 1\)"):
            pipe.incr("text").set("after", 1).execute()
        return pipe.incr("text").get("after").execute(raise_on_error=False)

    error, after = runner.run(job)
    assert isinstance(error, redis.ResponseError)
    assert after in (b"1", "1")


def test_a_resent_pipeline_is_applied_twice_as_a_whole(redis_client: Any, runner: Runner) -> None:
    def job() -> Any:
        return redis_client.pipeline(transaction=False).incr("a").incr("b").execute()

    plan = fault(FaultKind.RESENT, "redis.PIPELINE", Side.AFTER, occurrence=2)
    runner.run(job, plan)
    assert (redis_client.get("a"), redis_client.get("b")) == (b"2", b"2")


def test_a_pipeline_of_reads_is_a_read(redis_client: Any, runner: Runner) -> None:
    runner.run(lambda: redis_client.pipeline().get("a").get("b").execute())
    assert {e.effect.access for e in runner.last.history.effects} == {Access.READ}


def test_lua_and_registered_scripts_are_one_effect_each(redis_client: Any, runner: Runner) -> None:
    """Goal: a script is one Effect whether or not the server has it: points are stable from run to run."""
    text = f"return redis.call('INCRBY', KEYS[1], ARGV[1]) -- {time.time()}"
    script = redis_client.register_script(text)
    for expected in (3, 6):
        assert runner.run(lambda: script(keys=["n"], args=[3])) == expected
        assert runner.labels() == ["redis.EVALSHA"]
    assert runner.run(lambda: redis_client.eval("return 1", 0)) == 1
    assert runner.labels() == ["redis.EVAL"]

    def job() -> Any:
        pipe = redis_client.pipeline()
        script(keys=["n"], args=[3], client=pipe)
        return pipe.execute()

    assert runner.run(job) == [9]
    assert runner.labels() == ["redis.MULTI"]


def test_a_lock_works_and_waits_without_waiting(redis_client: Any, runner: Runner) -> None:
    """Goal: a lock held by nobody who lives is waited for in moved time, until its lease is over."""
    redis_client.set("lock", "somebody", ex=20)

    def job() -> Any:
        with redis_client.lock("lock", timeout=30, sleep=1, blocking_timeout=60):
            return redis_client.get("lock") != b"somebody"

    begun = time.perf_counter()
    assert runner.run(job) is True
    assert time.perf_counter() - begun < 2
    assert "redis.EVALSHA" in runner.labels()


def test_watch_multi_exec(redis_client: Any, runner: Runner) -> None:
    redis_client.set("n", 1)

    def job() -> Any:
        with redis_client.pipeline() as pipe:
            pipe.watch("n")
            value = int(pipe.get("n"))
            pipe.multi()
            pipe.set("n", value + 1)
            return pipe.execute()

    assert runner.run(job) == [True]
    assert runner.labels() == ["redis.WATCH", "redis.GET", "redis.MULTI"]
    assert redis_client.get("n") == b"2"


def test_overlapping_watches_see_each_other(redis_client: Any, runner: Runner) -> None:
    """Goal: the loser of a WATCH race gets a WatchError and tries again, in whatever order the steps are."""
    redis_client.set("n", 0)

    def job() -> None:
        redis_client.transaction(
            lambda pipe: (value := int(pipe.get("n")), pipe.multi(), pipe.set("n", value + 1)), "n"
        )

    for steps in range(5):
        runner.run(job, Plan(deliveries=2, overlap=(Segment(1, steps), Segment(2), Segment(1))))
        assert runner.error is None
    assert redis_client.get("n") == b"10"
    assert any(event.failed for event in runner.last.history) is False


def test_a_check_then_act_is_interleaved(redis_client: Any, runner: Runner) -> None:
    def job() -> None:
        if not redis_client.get("done"):
            redis_client.incr("n")
            redis_client.set("done", 1)

    runner.run(job, Plan(deliveries=2))
    assert redis_client.get("n") == b"1"
    runner.store.restore()
    runner.run(job, Plan(deliveries=2, overlap=(Segment(1, 1), Segment(2, 1), Segment(1), Segment(2))))
    assert redis_client.get("n") == b"2"


# -- faults --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "side", "expected", "raises"),
    [
        (FaultKind.REFUSED, Side.BEFORE, None, True),
        (FaultKind.LOST, Side.AFTER, b"1", True),
        (FaultKind.RESENT, Side.AFTER, b"2", False),
    ],
)
@pytest.mark.parametrize("how", ["command", "multi", "pipeline", "script"])
def test_a_write_is_refused_lost_and_resent(
    redis_client: Any,
    runner: Runner,
    how: str,
    kind: FaultKind,
    side: Side,
    expected: bytes | None,
    raises: bool,
) -> None:
    """Goal: an error before, an error after, or a silent second application: as redis-py behaves."""
    script = redis_client.register_script("return redis.call('INCR', KEYS[1])")
    errors: list[BaseException] = []

    def job() -> Any:
        try:
            match how:
                case "command":
                    return redis_client.incr("n")
                case "script":
                    return script(keys=["n"])
                case _:
                    pipe = redis_client.pipeline(transaction=how == "multi")
                    try:
                        return pipe.incr("n").execute()[0]
                    finally:
                        assert not pipe.command_stack
        except redis.ConnectionError as error:
            errors.append(error)
            return None

    label = {"command": "INCRBY", "multi": "MULTI", "pipeline": "PIPELINE", "script": "EVALSHA"}[how]
    result = runner.run(job, fault(kind, f"redis.{label}", side))
    assert runner.error is None
    assert runner.last.fired == 1
    assert redis_client.get("n") == expected
    assert bool(errors) is raises
    assert result == (None if raises else 2)


def test_a_resent_set_nx_sees_its_own_key(redis_client: Any, runner: Runner) -> None:
    plan = fault(FaultKind.RESENT, "redis.SET", Side.AFTER)
    assert runner.run(lambda: redis_client.set("done", "mine", nx=True), plan) is None
    assert redis_client.get("done") == b"mine"


@pytest.mark.parametrize(
    ("kind", "side", "expected"),
    [
        (FaultKind.REFUSED, Side.BEFORE, None),
        (FaultKind.LOST, Side.AFTER, b"1"),
        (FaultKind.RESENT, Side.AFTER, b"1"),
    ],
)
def test_a_lost_connection_while_watching_is_a_watch_error(
    redis_client: Any, runner: Runner, kind: FaultKind, side: Side, expected: bytes | None
) -> None:
    """Goal: as redis-py has it, whether it retries or not: WatchError, though EXEC may have been done."""
    errors: list[str] = []

    def job() -> None:
        with redis_client.pipeline() as pipe:
            pipe.watch("other")
            pipe.multi()
            pipe.incr("n")
            try:
                pipe.execute()
            except redis.WatchError as error:
                errors.append(str(error))
            assert not pipe.watching
            assert pipe.connection is None

    runner.run(job, fault(kind, "redis.MULTI", side))
    assert runner.error is None
    assert errors == ["A ConnectionError occurred while watching one or more keys"]
    assert redis_client.get("n") == expected


def test_fakeredis_agrees_that_a_lost_connection_while_watching_is_a_watch_error() -> None:
    """Goal: the claim of the test above, on redis-py itself. Method: a fake server that goes away."""
    fakeredis = pytest.importorskip("fakeredis")
    server = fakeredis.FakeServer()
    pipe = fakeredis.FakeRedis(server=server).pipeline()
    pipe.watch("a")
    pipe.multi()
    pipe.incr("n")
    server.connected = False
    with pytest.raises(redis.WatchError):
        pipe.execute()


def test_a_kill_leaves_what_was_done_and_no_watch(redis_client: Any, runner: Runner) -> None:
    """Goal: after a kill in WATCH mode, neither handler nor connection of the dead delivery does anything."""
    pipelines: list[Any] = []

    def job() -> None:
        redis_client.rpush("log", "begun")
        pipe = redis_client.pipeline()
        pipelines.append(pipe)
        try:
            pipe.watch("n")
            pipe.get("n")
            pipe.multi()
            pipe.set("n", 1)
            pipe.execute()
        except BaseException:
            redis_client.set("handled", 1)
            raise

    runner.run(job, fault(FaultKind.KILL, "redis.GET", Side.AFTER))
    assert runner.error is None
    assert redis_client.lrange("log", 0, -1) == [b"begun", b"begun"]
    assert redis_client.get("n") == b"1"
    assert not redis_client.exists("handled")
    assert pipelines[0].connection is None
    assert runner.last.redeliveries == 1


def test_a_blocking_command_waits_in_moved_time(redis_client: Any, runner: Runner) -> None:
    begun = time.perf_counter()
    assert runner.run(lambda: redis_client.blpop(["q"], timeout=30)) is None
    assert time.perf_counter() - begun < 2
    redis_client.rpush("q", "x")
    assert runner.run(lambda: redis_client.blpop(["q"], timeout=30)) == (b"q", b"x")
    assert runner.labels() == ["redis.BLPOP"]
    redis_client.xadd("s", {"f": "v"})
    assert runner.run(lambda: redis_client.xread({"s": "0"}, block=5000))
    assert not runner.run(lambda: redis_client.xread({"s": "$"}, block=5000))


def test_an_endless_wait_ends(redis_client: Any, runner: Runner) -> None:
    runner.run(lambda: redis_client.blpop(["q"], timeout=0))
    assert runner.error is not None


def test_a_database_that_was_not_given_is_reported(redis_client: Any, runner: Runner) -> None:
    fakeredis = pytest.importorskip("fakeredis")
    stranger = fakeredis.FakeRedis(server=fakeredis.FakeServer(), db=3)
    assert RedisAdapter().strangers() == ()
    runner.run(lambda: stranger.set("a", 1))
    assert stranger.get("a") == b"1"
    [event] = runner.last.history.effects
    assert event.effect.label == "redis.SET"
    assert event.effect.store == "redis:fakeredis/3"
    assert RedisAdapter().strangers() == ("fakeredis/3",)


def test_writes_of_other_threads_and_connections_are_seen(redis_client: Any, store: RedisStore) -> None:
    store.open(TrialGate())
    thread = threading.Thread(target=lambda: redis_client.set("a", 1))
    thread.start()
    thread.join()
    assert added(store.changes()) == {"a": "1"}


def test_a_lease_runs_out_when_time_passes(redis_client: Any, runner: Runner) -> None:
    """Goal: TTLs follow the engine's clock, once: on a fake by the wall clock, on a server by `advance`."""
    redis_client.set("base", "1", ex=100)
    runner.store.close()
    runner.store.open(runner.gate)

    def job() -> Any:
        redis_client.set("short", 1, ex=10)
        redis_client.set("long", 1, ex=30)
        time.sleep(20)
        return redis_client.get("short"), redis_client.ttl("long"), redis_client.ttl("base")

    short, long, base = runner.run(job)
    assert short is None
    assert long in (9, 10)
    assert base in (79, 80)
    runner.store.restore()
    assert not runner.store.changes()
    assert redis_client.ttl("base") in (99, 100)


def test_a_lost_reporting_connection_costs_time_and_no_truth(redis_client: Any, store: RedisStore) -> None:
    """Goal: exactness does not hang on the server's reports. Method: every other connection to this database is
    killed; those to the server's other databases are other tests'.
    """
    fill(redis_client)
    store.open(TrialGate())
    with contextlib.suppress(redis.ResponseError):
        own = redis_client.client_id()
        here = redis_client.connection_pool.connection_kwargs["db"]
        others = [c["id"] for c in redis_client.client_list() if int(c["db"]) == here and int(c["id"]) != own]
        assert others, "the store has a connection of its own"
        for other in others:
            redis_client.client_kill_filter(_id=other)
    redis_client.set("a", 1)
    assert added(store.changes()) == {"a": "1"}
    store.restore()
    assert not store.changes()
    redis_client.set("a", 2)
    assert added(store.changes()) == {"a": "2"}


def test_a_database_without_reports_is_compared_in_full(
    redis_client: Any, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: servers before Redis 6 and proxies work, too. Method: the fake as if it were such a server."""
    from idemfuzz.adapters.redis import images
    from idemfuzz.adapters.redis import store as stores

    monkeypatch.setattr(images._Tracking, "start", lambda pool: None)
    monkeypatch.setattr(stores, "fake_server", lambda connection: None)
    fill(redis_client)
    before = _contents(redis_client)
    store.open(TrialGate())
    redis_client.set("a", 1)
    redis_client.delete("list")
    redis_client.hset("hash", "a", "9")
    delta = store.changes()
    assert {fact.fields["key"] for fact in delta.added} == {"a", "hash"}
    assert {fact.fields["key"] for fact in delta.removed} == {"list", "hash"}
    store.restore()
    assert not store.changes()
    assert _contents(redis_client) == before


def test_a_remote_host_is_refused_unless_allowed() -> None:
    """Goal: the message says what, why and how to mend it, and never a password."""
    client = redis.Redis.from_url("redis://:secret@cache.example.org:6379/0")
    store = RedisAdapter().adopt("cache", client, Options())
    assert store is not None
    message = r"cache\.example\.org:6379/0.*allow=\['cache\.example\.org'\]"
    with pytest.raises(Unusable, match=message) as caught:
        store.open(TrialGate())
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_refused() -> None:
    store = RedisAdapter().adopt("cache", redis.Redis(port=1), Options())
    assert store is not None
    with pytest.raises(Unusable, match="does not answer"):
        store.open(TrialGate())
    from redis.client import Redis

    assert not hasattr(Redis.execute_command, "__wrapped__")


def test_a_queue_of_rq_is_adopted_by_its_connection(redis_client: Any, store: RedisStore) -> None:
    rq = pytest.importorskip("rq")
    adopted = RedisAdapter().adopt("queue", rq.Queue(connection=redis_client), Options())
    assert adopted is not None
    assert adopted.identity == store.identity
