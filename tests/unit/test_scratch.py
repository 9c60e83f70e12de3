"""Folders of a process's own: gone with it, or when the next one comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from idemfuzz.scratch import scratch


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch("idemfuzz-this-", tmp_path) as folder:
        (folder / "inside").write_text("something")
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_when_its_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch("idemfuzz-this-", tmp_path) as folder:
        (folder / "inside").write_text(str(1 / 0))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_a_killed_process_left_goes_with_the_next_block(tmp_path: Path) -> None:
    """Goal: nothing piles up, and nobody's folder goes while it is in use. Method: a process is killed, another lives."""
    makes = (
        "import sys, time; from pathlib import Path; from idemfuzz.scratch import scratch\n"
        "with scratch('idemfuzz-this-', Path(sys.argv[1])) as folder: print(folder, flush=True); time.sleep(60)"
    )
    killed, living = (
        subprocess.Popen([sys.executable, "-c", makes, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in "12"
    )
    try:
        left, used = (Path(process.stdout.readline().strip()) for process in (killed, living))  # type: ignore[union-attr]
        for folder in (left, used):
            os.utime(folder / "lock", (0, 0))
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with scratch("idemfuzz-other-", tmp_path):
            assert left.exists()
        with scratch("idemfuzz-this-", tmp_path):
            assert not left.exists()
        assert used.exists()
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
