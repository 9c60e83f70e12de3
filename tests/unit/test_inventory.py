"""Jobs are found in source text, however they are handed over, with what in them may not be repeated."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from idemfuzz.abc import Unusable
from idemfuzz.inventory import Inventory, take_inventory
from idemfuzz.inventory.rendering import documented, markdown, to_json


def application(folder: Path, **files: str) -> Inventory:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return take_inventory([folder], folder)


def names(inventory: Inventory) -> list[str]:
    return [entry.job.name for entry in inventory.entries]


JOBS = """
    from rq import Queue
    def one(): ...
    def two(): ...
    class Three:
        def work(self): ...
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import work\nqueue.enqueue(work.one, 1)", ["work.one"]),
        ("from work import one as first\nqueue.enqueue_in(delay, first)", ["work.one"]),
        ("queue.enqueue('work.two')", ["work.two"]),
        ("from work import two\nqueue.enqueue_call(func=two, args=(1,))", ["work.two"]),
        ("from rq.job import Job\nfrom work import one\nJob.create(one, connection=c)", ["work.one"]),
        ("from functools import partial\nfrom work import one\nqueue.enqueue(partial(one, 1))", ["work.one"]),
        (
            "from work import one, two\ndef f(x):\n  queue.enqueue(one if x else two)",
            ["work.one", "work.two"],
        ),
        (
            "from work import one, two\ndef f():\n  for job in (one, two):\n    queue.enqueue(job)",
            ["work.one", "work.two"],
        ),
        ("def f():\n  from work import one\n  queue.enqueue_many([Queue.prepare_data(one)])", ["work.one"]),
        ("from work import Three\nqueue.enqueue(Three().work)", ["work.Three.work"]),
        ("from rq.decorators import job\n@job('low')\ndef own(): ...", ["app.own"]),
        ("import django_rq\n@django_rq.job\ndef own(): ...", ["app.own"]),
        ("from flask_rq2 import RQ\nrq = RQ()\n@rq.job('low', timeout=5)\ndef own(): ...", ["app.own"]),
        ("import math\nqueue.enqueue(math.sqrt, 4)", ["math.sqrt"]),
        ("def enqueue(x): ...\nfrom work import one\nenqueue(one)", []),
    ],
)
def test_jobs_are_found_however_they_are_handed_over(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert names(application(tmp_path, work=JOBS, app=text)) == expected


HANDED = {
    "local alias of method": (
        "from rq import Queue\nfrom work import one\ndef f():\n  q = Queue()\n  enqueue = q.enqueue\n  enqueue(one, 1)",
        ["work.one"],
    ),
    "local import alias": (
        "from rq import Queue\ndef f(q):\n  from work import one as s\n  q.enqueue(s)",
        ["work.one"],
    ),
    "module alias of method": (
        "from rq import Queue\nfrom work import one\nq = Queue()\nsend = q.enqueue\nsend(one)",
        ["work.one"],
    ),
    "partial local": (
        "from functools import partial\nfrom work import one\ndef f(q):\n  job = partial(one, 1)\n  q.enqueue(job)",
        ["work.one"],
    ),
    "partial module": (
        "from functools import partial\nfrom work import one\njob = partial(one, 1)\ndef f(q):\n  q.enqueue(job)",
        ["work.one"],
    ),
    "functools.partial": (
        "import functools\nfrom work import one\ndef f(q):\n  q.enqueue(functools.partial(one, 1))",
        ["work.one"],
    ),
    "partial of enqueue": (
        "from functools import partial\nfrom work import one\nfrom rq import Queue\nq=Queue()\nlater = partial(q.enqueue, job_timeout=5)\ndef f():\n  later(one)",
        ["work.one"],
    ),
    "instance method local": (
        "from work import Three\ndef f(q):\n  t = Three()\n  q.enqueue(t.work)",
        ["work.Three.work"],
    ),
    "instance method direct": (
        "from work import Three\ndef f(queue):\n  queue.enqueue(Three().work)",
        ["work.Three.work"],
    ),
    "class method": ("from work import Three\ndef f(q):\n  q.enqueue(Three.work)", ["work.Three.work"]),
    "self method": (
        "from rq import Queue\nclass A:\n  def go(self, q):\n    q.enqueue(self.run_it)\n  def run_it(self): ...",
        ["app.A.run_it"],
    ),
    "mixin method": (
        "from rq import Queue\nclass Mix:\n  def run_it(self): ...\nclass A(Mix):\n  def go(self, q):\n    q.enqueue(self.run_it)",
        ["app.Mix.run_it"],
    ),
    "base enqueues self.perform": (
        "from rq import Queue\nclass Base:\n  def delay(self, *a):\n    Queue().enqueue(self.perform, *a)\n  def perform(self): raise NotImplementedError\nclass Mail(Base):\n  def perform(self): ...\nclass Bill(Base):\n  def perform(self): ...",
        ["app.Bill.perform", "app.Mail.perform"],
    ),
    "callable class": (
        "from rq import Queue\nclass Job1:\n  def __call__(self): ...\ndef f(q):\n  q.enqueue(Job1())",
        ["app.Job1"],
    ),
    "decorated job": (
        "from rq import Queue\nimport functools\ndef log(f):\n  @functools.wraps(f)\n  def inner(*a): return f(*a)\n  return inner\n@log\ndef one(): ...\ndef go(q):\n  q.enqueue(one)",
        ["app.one"],
    ),
    "wrapped when enqueued": (
        "from rq import Queue\nfrom work import one\ndef log(f): return f\ndef go(q):\n  q.enqueue(log(one))",
        ["work.one"],
    ),
    "string const": ("from rq import Queue\nNAME='work.two'\ndef go(q):\n  q.enqueue(NAME)", ["work.two"]),
    "string fn in format": ("from rq import Queue\ndef go(q):\n  q.enqueue(f='work.two')", ["work.two"]),
    "dict dispatch": (
        "from rq import Queue\nfrom work import one, two\nJOBS={'a': one,'b':two}\ndef go(q, n):\n  q.enqueue(JOBS[n])",
        ["work.one", "work.two"],
    ),
    "dict get": (
        "from rq import Queue\nfrom work import one, two\nJOBS={'a': one,'b':two}\ndef go(q, n):\n  q.enqueue(JOBS.get(n))",
        ["work.one", "work.two"],
    ),
    "dispatcher positional": (
        "from rq import Queue\nfrom work import one, two\ndef later(fn, *args):\n  Queue().enqueue(fn, *args)\ndef go():\n  later(one, 1)\n  later(two)",
        ["work.one", "work.two"],
    ),
    "dispatcher star": (
        "from rq import Queue\nfrom work import one\ndef later(*args, **kw):\n  Queue().enqueue(*args, **kw)\ndef go():\n  later(one, 1)",
        ["work.one"],
    ),
    "dispatcher class": (
        "from rq import Queue\nfrom work import one\nclass Bus:\n  def __init__(self): self.q=Queue()\n  def send(self, fn, *a):\n    self.q.enqueue(fn, *a)\nbus=Bus()\ndef go():\n  bus.send(one, 1)",
        ["work.one"],
    ),
    "dispatcher class local": (
        "from rq import Queue\nfrom work import one\nclass Bus:\n  def send(self, fn, *a):\n    Queue().enqueue(fn, *a)\ndef go():\n  bus=Bus()\n  bus.send(one, 1)",
        ["work.one"],
    ),
    "job alias decorator": (
        "from rq.decorators import job as task\n@task('low', connection=None, timeout=3)\ndef own(): ...",
        ["app.own"],
    ),
    "job decorator assigned": (
        "from rq.decorators import job\nlow = job('low')\n@low\ndef own(): ...",
        ["app.own"],
    ),
    "job via module": ("import rq.decorators\n@rq.decorators.job('x')\ndef own(): ...", ["app.own"]),
    "own decorator factory": (
        "from rq.decorators import job\ndef task(queue='low'):\n  def wrap(f):\n    return job(queue)(f)\n  return wrap\n@task()\ndef own(): ...",
        ["app.own"],
    ),
    "django_rq.get_queue": (
        "import django_rq\nfrom work import one\ndjango_rq.get_queue('x').enqueue(one)\ndjango_rq.enqueue(one)",
        ["work.one"],
    ),
    "scheduler": (
        "from rq_scheduler import Scheduler\nfrom work import one\ns = Scheduler()\ns.enqueue_in(5, one)\ns.cron('* * * * *', func=one)\ns.schedule(1, one)",
        ["work.one"],
    ),
    "repeat enqueue_many": (
        "from rq import Queue\nfrom work import one, two\ndef go(q):\n  q.enqueue_many([Queue.prepare_data(f, (1,)) for f in (one, two)])",
        ["work.one", "work.two"],
    ),
    "job.delay": (
        "from rq.decorators import job\n@job('x')\ndef own(): ...\ndef go():\n  own.delay(1)",
        ["app.own"],
    ),
    "lambda default": (
        "from rq import Queue\nfrom work import one\nhandler = one\ndef go(q):\n  q.enqueue(handler)",
        ["work.one"],
    ),
    "queue attribute alias": (
        "from rq import Queue\nfrom work import one\nclass S:\n  def __init__(self):\n    self.send = Queue().enqueue\n  def go(self):\n    self.send(one)",
        ["work.one"],
    ),
}
"""What is handed over in other words -> the application, and the jobs in it."""


@pytest.mark.parametrize(("text", "expected"), HANDED.values(), ids=HANDED)
def test_other_words_for_a_job_and_for_handing_it_over_are_followed(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    """Goal: aliases, partials, tables, bases, decorators and dispatchers of the application's own."""
    inventory = application(tmp_path, work=JOBS, app=text)
    assert names(inventory) == expected
    assert not inventory.unknown


@pytest.mark.parametrize(
    "text",
    [
        "from rq import Queue\nfrom work import one\ndef f(player):\n  send = player.play\n  send(one)",
        "from rq import Queue\nfrom work import one\nclass Bus:\n  def send(self, fn): ...\nbus = Bus()\nbus.send(one)",
        "from rq import Queue\nimport functools\n@functools.cache\ndef one(): ...",
        "from rq import Queue\ndef f():\n  one = 1\nplayer.show(one)",
    ],
)
def test_what_is_no_queue_makes_no_job(tmp_path: Path, text: str) -> None:
    assert names(application(tmp_path, work=JOBS, app=text)) == []


def test_what_passes_a_job_on_is_followed(tmp_path: Path) -> None:
    """Goal: the application's own way to enqueue, over two functions and a re-export, as in larger applications."""
    inventory = application(
        tmp_path,
        shop__work="from rq import Queue\ndef one(): ...\ndef two(): ...",
        shop__queues="""
            def enqueue(fn, args=None, queue='low'):
                return get(queue).enqueue_call(func=fn, args=args)
            def later(*, fn):
                return enqueue(fn)
        """,
        shop__tools="from shop.queues import enqueue as enqueue_job, later",
        shop__views="""
            from . import tools
            from .work import one, two
            def view():
                tools.enqueue_job(one, [1])
                tools.later(fn=two)
        """,
    )
    assert names(inventory) == ["shop.work.one", "shop.work.two"]
    assert not inventory.unknown


def test_what_the_text_does_not_tell_is_said(tmp_path: Path) -> None:
    inventory = application(
        tmp_path, app="from rq import Queue\ndef f(table, q):\n  my_queue.enqueue(table['x']())"
    )
    assert names(inventory) == []
    assert [(u.file, u.line) for u in inventory.unknown] == [("app.py", 3)]


def test_without_a_queue_nothing_is_a_job(tmp_path: Path) -> None:
    assert names(application(tmp_path, app="def f(): ...\nplayer.enqueue(f)")) == []


def test_jobs_of_the_tests_are_not_the_applications(tmp_path: Path) -> None:
    inventory = application(
        tmp_path, app="from rq import Queue", tests__test_x="from math import sqrt\nqueue.enqueue(sqrt, 4)"
    )
    assert names(inventory) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("session.add(user)", ["insert"]),
        ("basket.add(1)", []),
        ("db.execute(text('INSERT INTO users VALUES (1)'))", ["insert"]),
        ("db.execute(text('INSERT INTO users VALUES (1) ON CONFLICT DO NOTHING'))", []),
        ("db.execute(insert(users).values(name=name))", ["insert"]),
        ("db.execute(insert(users).values(name=name).on_conflict_do_nothing())", []),
        ("db.execute(update(orders).where(orders.c.id == 1).values(status='x'))", ["update"]),
        ("db.execute(update(orders).where(orders.c.status == 'a').values(status='x'))", []),
        ("db.execute(update(a).where(a.c.id == 1).values(n=a.c.n + 1))", ["counter"]),
        ("db.execute(text('UPDATE a SET n = n + 1 WHERE id = 1'))", ["counter"]),
        ("account.points += 5", ["counter"]),
        ("total += 5", []),
        ("r.incr('n')", ["counter"]),
        ("r.rpush('list', 1)", ["element"]),
        ("smtp.send_message(mail)", ["mail"]),
        ("requests.post(url, json={})", ["http"]),
        ("requests.get(url)", []),
        ("requests.post(url, headers={'Idempotency-Key': key})", []),
        ("queue.enqueue(child, 1)", ["enqueue"]),
        ("queue.enqueue(child, 1, job_id='c1')", []),
        ("open('log', 'a').write('x')", ["append"]),
    ],
)
def test_what_may_not_be_repeated_is_seen(tmp_path: Path, line: str, expected: list[str]) -> None:
    """Goal: each kind of operation, behind a call of the application's own, and its guarded form."""
    inventory = application(
        tmp_path,
        app="from rq.decorators import job\nimport requests\nfrom sqlalchemy import insert, update, text\n"
        f"def child(): ...\ndef helper(user):\n  total = 0\n  {line}\n@job('low')\ndef own():\n  helper(1)\n",
    )
    (entry,) = (e for e in inventory.entries if e.job.name == "app.own")
    assert [op.kind for op in entry.operations if not op.guarded] == expected


def test_a_marked_test_is_found_and_its_lack_named(tmp_path: Path) -> None:
    inventory = application(
        tmp_path,
        app="from rq.decorators import job\n@job('low')\ndef tested(): ...\n@job('low')\ndef bare(): ...",
        tests__test_app="""
            import pytest
            from app import tested, bare
            @pytest.mark.idempotent
            def test_it(): tested()
            def test_plain(): bare()
        """,
    )
    assert {entry.job.name: entry.tests for entry in inventory.entries} == {
        "app.tested": ["tests/test_app.py::test_it"],
        "app.bare": [],
    }
    assert "**no marked test**" in markdown(inventory)
    assert inventory.percent == 0


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    inventory = application(
        tmp_path, broken="def f(:", app="from rq.decorators import job\n@job\ndef own(): ..."
    )
    assert [path.name for path, _ in inventory.unreadable] == ["broken.py"]
    assert to_json(inventory)["jobs"][0]["name"] == "app.own"


def test_documentation_keeps_what_people_wrote(tmp_path: Path) -> None:
    inventory = application(tmp_path, app="from rq.decorators import job\n@job('low')\ndef own(): ...")
    page = documented("", inventory)
    mine = page.replace("## `own`\n", "## `own`\n\nAsk Ada.\n") + "\nThe end.\n"
    again = documented(mine, inventory)
    assert again == mine
    assert documented(again.replace("Strategy", "Nonsense"), inventory) == mine
    gone = documented(mine, application(tmp_path, app="from rq import Queue"))
    assert "Ask Ada." in gone
    assert "not found any more" in gone


def test_a_lost_path_and_a_broken_file_of_verdicts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="nowhere"):
        take_inventory([tmp_path / "nowhere"], tmp_path)
    (tmp_path / ".idemfuzz").mkdir()
    (tmp_path / ".idemfuzz" / "verdicts.json").write_text("{}", encoding="utf-8")
    with pytest.raises(Unusable, match=r"verdicts\.json"):
        take_inventory([tmp_path], tmp_path)


def test_the_shop_is_complete_against_a_hand_count() -> None:
    """Goal: what its web application hands to a queue, and what a job does: the right variants, no others."""
    examples = Path(__file__).parents[2] / "examples"
    assert names(take_inventory([examples / "shop"], examples)) == [
        "shop.jobs.create_user.create_user_right",
        "shop.jobs.generate_report.generate_report_right",
        "shop.jobs.process_payment.process_payment_right",
        "shop.jobs.send_email.send_email_right",
        "shop.jobs.update_status.notify_customer",
        "shop.jobs.update_status.update_status_right",
    ]


def test_a_key_that_comes_by_a_variable_is_one_where_it_is_given(tmp_path):
    inventory = application(
        tmp_path,
        app="""
            import requests
            from rq.decorators import job

            def charge(cents, *, idempotency_key=None):
                headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
                requests.post("https://pay.example/charges", json={"cents": cents}, headers=headers)

            @job("low")
            def given(order): charge(5, idempotency_key=f"order-{order}")
            @job("low")
            def left_out(order): charge(5)
            @job("low")
            def built(order):
                headers = {}
                headers["Idempotency-Key"] = f"order-{order}"
                requests.post("https://pay.example/charges", headers=headers)
            @job("low")
            def other(order):
                headers = {"Accept": "application/json"}
                requests.post("https://pay.example/charges", headers=headers)
        """,
    )
    guarded = {e.job.name: [o.guarded for o in e.operations if o.kind == "http"] for e in inventory.entries}
    assert guarded == {
        "app.given": [True],
        "app.left_out": [False],
        "app.built": [True],
        "app.other": [False],
    }
