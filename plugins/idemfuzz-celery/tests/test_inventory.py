"""Celery's tasks are found in source text, without importing it."""

from __future__ import annotations

from pathlib import Path

from idemfuzz.inventory import RQ, Sources, found_jobs

from idemfuzz_celery.inventory import CELERY

FILES = {
    "shop/__init__.py": "",
    "shop/celery.py": "from celery import Celery\napp = Celery('shop')\n",
    "shop/tasks.py": (
        "from celery import Task, shared_task\nfrom shop.celery import app\n"
        "@shared_task\ndef one(): ...\n"
        "@shared_task(bind=True, acks_late=True)\ndef two(self): ...\n"
        "@app.task(name='three')\ndef three(): ...\n"
        "class Four(Task):\n    def run(self): ...\n"
        "@app.route('/')\ndef view(): one.delay()\n"
        "def plain(): ...\n"
    ),
}


def test_decorated_functions_and_task_classes_are_jobs(tmp_path: Path) -> None:
    """Goal: each of Celery's ways to make a task, and nothing else."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    jobs, unknown = found_jobs(Sources([tmp_path]), [RQ, CELERY], tmp_path)
    assert [(job.name.removeprefix("shop.tasks."), job.queue) for job in jobs] == [
        ("Four.run", "celery"),
        ("one", "celery"),
        ("three", "celery"),
        ("two", "celery"),
    ]
    assert not unknown
