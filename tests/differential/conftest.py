"""What generated jobs reach outside."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from differential.reality import Outside


@pytest.fixture
def outside(smtp: tuple[str, int], tmp_path: Path) -> Outside:
    folder = tmp_path / "out"
    folder.mkdir()
    return Outside(Mock(name="gateway"), smtp, folder)
