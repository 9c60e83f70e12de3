"""The clock that a job sees."""

from __future__ import annotations

import time
from datetime import datetime

from idemfuzz.engine.clock import Clock


def test_all_that_tells_the_time_of_day_is_moved_and_put_back() -> None:
    """Goal: a time in words is moved as others are; else two references show the same one, and a trial in the next second another.
    Method: two hours, give or take five minutes; a machine that was held for some seconds still tells the old second in words."""
    clock = Clock(lambda: None, lambda seconds, library: None)
    ways = {
        "time": lambda: datetime.fromtimestamp(time.time()),
        "now": datetime.now,
        "localtime": lambda: datetime(*time.localtime()[:6]),
        "ctime": lambda: datetime.strptime(time.ctime(), "%a %b %d %H:%M:%S %Y"),
        "asctime": lambda: datetime.strptime(time.asctime(), "%a %b %d %H:%M:%S %Y"),
    }
    before = datetime.now()
    clock.install()
    try:
        clock.advance(7_200)
        for name, way in ways.items():
            assert 6_900 < (way() - before).total_seconds() < 7_500, name
        assert time.ctime(0) == time.asctime(time.localtime(0))
    finally:
        clock.uninstall()
    for name, way in ways.items():
        assert -300 < (way() - before).total_seconds() < 300, name
