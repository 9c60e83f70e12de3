"""Which jobs a worker can import and a queue can carry: told before a server or a worker is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

JOBS = """
import idemfuzz
from redis import Redis

redis = Redis(port=1)

def right(n): redis.set("a", n)
def carries_a_function(n): redis.set("a", 1)
def has_no_arguments(n): redis.set("a", n)
def cannot_make_arguments(n): redis.set("a", n)
async def coroutine(n): pass
def make():
    def inner(n): pass
    return inner
class Holder:
    def __call__(self, n): pass

idemfuzz.register(right, args=(1,), stores=[redis])
idemfuzz.register(carries_a_function, args=lambda n: (n if n < 3 else (lambda: 1),), stores=[redis])
idemfuzz.register(cannot_make_arguments, args=lambda n: [][n], stores=[redis])
idemfuzz.register(has_no_arguments, stores=[redis])
idemfuzz.register(coroutine, args=(1,), stores=[redis])
idemfuzz.register(lambda n: None, args=(1,), stores=[redis])
"""
FOUND = """
from idemfuzz import import_path
from idemfuzz.abc import Unusable
from idemfuzz.stress import find_target
import sys
import_path.include_here()
try:
    target = find_target(sys.argv[1])
    target.check_sendable(10)
    print("found", target.name)
except Unusable as error:
    print(error)
"""


@pytest.fixture
def find(tmp_path: Path) -> object:
    """Look for a target from a folder of modules, in a process of its own."""
    (tmp_path / "shop_jobs.py").write_text(JOBS)
    (tmp_path / "broken.py").write_text("import no_such_thing\n")
    (tmp_path / "raises.py").write_text("raise RuntimeError('no settings')\n")
    (tmp_path / "made.py").write_text("from shop_jobs import make\ninner = make()\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "names.py").write_text("KEY = 'a'\n")
    (tmp_path / "shop" / "tasks.py").write_text("from .names import KEY\ndef job(n=1): pass\n")

    def run(text: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", FOUND, text], capture_output=True, text=True, cwd=tmp_path
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shop_jobs:right", "found shop_jobs.right"),
        ("shop_jobs.py:right", "found shop_jobs.right"),
        ("shop.tasks:job", "found shop.tasks.job"),
        ("shop/tasks.py:job", "found shop.tasks.job"),
        ("shop_jobs:rihgt", "did you mean 'right'?"),
        ("shop_jobs:make", "found shop_jobs.make"),
        ("shop_jobs:redis", "has no function 'redis'"),
        ("shop_jobs:Holder", "is no function but type"),
        ("shop_jobs:<lambda>", "is a lambda"),
        ("made:inner", "is a function within a function"),
        ("shop_jobs:coroutine", "is a coroutine function"),
        ("shop_jobs:has_no_arguments", "args=lambda n: (...)"),
        ("shop_jobs:carries_a_function", "of job 3, cannot be put into a queue"),
        ("shop_jobs:cannot_make_arguments", "args(0) fails: IndexError"),
        ("shop_jobs", "names 6 jobs"),
        ("no_such.module:job", "there is no module 'no_such.module'"),
        ("shop.no_such:job", "there is no module 'shop.no_such'"),
        ("no_such.py:job", "there is no file 'no_such.py'"),
        ("broken:job", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("raises:job", "RuntimeError: no settings"),
        ("broken.sub:job", "cannot be imported"),
    ],
)
def test_jobs_that_a_worker_can_and_cannot_have(find: object, text: str, told: str) -> None:
    """Goal: each is found or refused with the reason, and none with a traceback."""
    said = find(text)  # type: ignore[operator]
    assert told in said
    assert "Traceback" not in said
