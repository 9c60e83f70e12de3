"""Public is what stands in ``__all__``: it exists, is documented, and the nouns are described on one page."""

from __future__ import annotations

import importlib
import inspect

import pytest

PUBLIC = ["idemfuzz", "idemfuzz.abc", "idemfuzz.api", "idemfuzz.model", "idemfuzz.engine", "idemfuzz.explorers", "idemfuzz.checkers",
          "idemfuzz.diagnose", "idemfuzz.servers", "idemfuzz.testing"]  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_exists_and_has_a_docstring(name: str):
    module = importlib.import_module(name)
    assert module.__doc__
    for export in module.__all__:
        value = getattr(module, export)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{export} has no docstring"


def test_version_is_one():
    import idemfuzz

    assert idemfuzz.__version__.count(".") == 2


def test_every_noun_stands_in_the_model_page():
    import idemfuzz.model as model

    for noun in ("Job", "Delivery", "Execution", "Effect", "Step", "Schedule", "Fault", "Plan", "Trial", "History", "Store",
                 "Fact, Delta", "Reference", "Verdict", "Finding", "Counterexample", "Certificate"):  # fmt: skip
        assert f"\n{noun} " in (model.__doc__ or ""), noun
