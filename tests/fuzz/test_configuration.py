"""`[tool.idemfuzz]`: what wins over what, what is refused and how, and the schema that is shipped."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from idemfuzz.abc import Unusable
from idemfuzz.api import make_options
from idemfuzz.cli.fuzz_display import Asked
from idemfuzz.configuration import BUILT_IN, FUZZ_KEYS, OPTION_KEYS, SCHEMA_PATH, configuration
from idemfuzz.explorers import FAULT_NAMES
from idemfuzz.fuzz.campaign import Settings
from idemfuzz.fuzz.databases import example_database

SCHEMA = json.loads(SCHEMA_PATH.read_text())

WHOLE = """
[tool.idemfuzz]
max_trials = 100
timeout = 2
ignore = ["users.last_seen"]
faults = ["kill", "duplicate"]
example_databases = ["directory:.hypothesis/examples", "read-only:github:shop/shop"]

[tool.idemfuzz.fuzz]
max_time = "20m"

[tool.idemfuzz.profiles.ci]
max_trials = 50
fuzz = { max_time = 90, order = 3 }

[tool.idemfuzz.profiles.deep]
deliveries = 6
"""


def write(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_the_nearer_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDEMFUZZ_PROFILE", raising=False)
    root = write(tmp_path, WHOLE)
    dev = configuration(root)
    assert dev.profile == "dev"
    assert dev.merged({}, {}).max_trials == 100
    ci = configuration(root, "ci")
    assert ci.merged({}, {}).max_trials == 50
    assert ci.merged({}, {}).timeout == 2
    assert ci.merged({"max_trials": 40}, {}).max_trials == 40
    assert ci.merged({"max_trials": 40}, {"max_trials": 30}).max_trials == 30
    assert ci.merged({}, {}).max_examples == BUILT_IN["ci"]["max_examples"]
    assert dict(ci.fuzz) == {"max_time": 90, "order": 3}
    assert configuration(root, "deep").merged({}, {}).deliveries == 6


LAYERS = """
[tool.idemfuzz]
{option} = {table}
fuzz = {{ {key} = {fuzz_table} }}

[tool.idemfuzz.profiles.mine]
{option} = {profile}
fuzz = {{ {key} = {fuzz_profile} }}
"""


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("seed", (1, 2, 3, 4)),
        ("deliveries", (4, 5, 6, 7)),
        ("timeout", (1.5, 2.5, 3.5, 4.5)),
        ("strict", (True, False, True, False)),
        ("faults", (["kill"], ["late"], ["stall"], ["lost"])),
        ("ignore", (["a"], ["b"], ["c"], ["d"])),
        ("redelivery_window", (10, 20, 30, 40)),
    ],
)
def test_of_four_layers_the_nearest_that_speaks_wins(
    tmp_path: Path, option: str, values: tuple[Any, ...]
) -> None:
    table, profile, job, given = values
    text = LAYERS.format(
        option=option,
        table=json.dumps(table),
        profile=json.dumps(profile),
        key="order",
        fuzz_table=3,
        fuzz_profile=5,
    )
    root = write(tmp_path, text)
    layers: list[tuple[str, dict[str, Any], dict[str, Any], Any]] = [
        ("dev", {}, {}, table),
        ("mine", {}, {}, profile),
        ("mine", {option: job}, {}, job),
        ("dev", {option: job}, {}, job),
        ("mine", {option: job}, {option: given}, given),
        ("mine", {}, {option: given}, given),
    ]
    for name, of_job, of_command_line, wanted in layers:
        found = configuration(root, name).merged(of_job, of_command_line)
        assert getattr(found, option) == getattr(make_options({option: wanted}), option), (name, wanted)


@pytest.mark.parametrize(
    ("key", "values", "read"),
    [
        ("max_time", ("1m", "2m", 180.0), lambda settings: f"{settings.max_seconds / 60:.0f}m"),
        ("max_findings", (1, 2, 3), lambda settings: settings.max_findings),
        ("faults", (4, 5, 6), lambda settings: settings.depth.faults),
        ("deliveries", (4, 5, 6), lambda settings: settings.depth.deliveries),
        ("order", (4, 5, 6), lambda settings: settings.depth.order),
    ],
)
def test_of_a_campaign_too(
    tmp_path: Path, key: str, values: tuple[Any, Any, Any], read: Callable[[Settings], Any]
) -> None:
    table, profile, given = values
    text = LAYERS.format(
        option="seed",
        table=1,
        profile=2,
        key=key,
        fuzz_table=json.dumps(table),
        fuzz_profile=json.dumps(profile),
    )
    root = write(tmp_path, text)
    assert read(Asked({}).settings(configuration(root, "dev"))) == table
    assert read(Asked({}).settings(configuration(root, "mine"))) == profile
    assert read(Asked({key: given}).settings(configuration(root, "mine"))) == (
        "3m" if key == "max_time" else given
    )
    assert Asked({}).settings(configuration(root, "mine")).seed == 2
    assert Asked({"seed": 7}).settings(configuration(root, "mine")).seed == 7


def test_the_profile_comes_from_the_command_line_the_environment_or_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path, "[tool.idemfuzz]\nprofile = 'nightly'\n")
    monkeypatch.delenv("IDEMFUZZ_PROFILE", raising=False)
    assert configuration(root).profile == "nightly"
    monkeypatch.setenv("IDEMFUZZ_PROFILE", "ci")
    assert configuration(root).profile == "ci"
    assert configuration(root, "dev").profile == "dev"


def test_without_a_file_or_a_table_there_are_the_built_in_profiles(tmp_path: Path) -> None:
    assert configuration(tmp_path, "nightly").options["max_trials"] == 2000
    assert configuration(write(tmp_path, "[project]\nname = 'x'\n"), "dev").options == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.idemfuzz]\nmax_trails = 5", "unknown key 'max_trails'; did you mean 'max_trials'?"),
        ("[tool.idemfuzz]\nmax-trials = 5", "unknown key 'max-trials'; did you mean 'max_trials'?"),
        ("[tool.idemfuzz]\nzzz = 5", "unknown key 'zzz'. The keys are"),
        (
            "[tool.idemfuzz.fuzz]\nmax_tme = '5m'",
            r"\[tool.idemfuzz.fuzz\] has the unknown key 'max_tme'; did you mean 'max_time'",
        ),
        (
            "[tool.idemfuzz.profiles.ci]\ndelivries = 5",
            r"\[tool.idemfuzz.profiles.ci\] .* did you mean 'deliveries'",
        ),
        ("[tool.idemfuzz]\nprofile = 'nigthly'", "no profile 'nigthly'; did you mean 'nightly'?"),
        ("[tool.idemfuzz]\nmax_trials = 0", "max_trials=0 is not usable"),
        ("[tool.idemfuzz.profiles.other]\nfaults = ['kil']", "profiles.other.*kil"),
        ("[tool.idemfuzz.fuzz]\norder = 77", "order=77 is not usable; expected a whole number from 2 to 9"),
        ("[tool.idemfuzz.fuzz]\nmax_time = 'soon'", "max_time='soon' is not usable"),
        ("[tool.idemfuzz.fuzz]\nmax_time = '5ss'", "max_time='5ss' is not usable"),
        ("[tool.idemfuzz.fuzz]\nmax_time = '0s'", "max_time='0s' is not usable"),
        ("[tool.idemfuzz.fuzz]\nmax_time = inf", "max_time=inf is not usable"),
        ("[tool.idemfuzz]\ntimeout = nan", "timeout=nan is not usable"),
        ("[tool.idemfuzz]\nfuzz = 3", "fuzz=3 is not usable"),
        ("[tool.idemfuzz]\nprofiles = 3", "profiles=3 is not usable"),
        ("[tool]\nidemfuzz = 3", "expected a table"),
        ("[tool.idemfuzz]\nexample_databases = 3", "example_databases=3 is not usable"),
        ("[tool.idemfuzz", "cannot be read"),
        ("tool = 3", "tool=3 is not usable; expected tables"),
    ],
)
def test_what_is_wrong_is_refused_with_the_place_and_a_guess(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        configuration(write(tmp_path, text))


def table(text: str) -> Any:
    return tomllib.loads(text)["tool"]["idemfuzz"]


def test_the_schema_is_one_and_knows_what_the_code_knows() -> None:
    """Goal: an editor's hints are true. Method: keys and faults against the code's."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    profile = SCHEMA["$defs"]["profile"]["properties"]
    assert set(profile) == {*OPTION_KEYS, "fuzz", "example_databases"}
    assert set(SCHEMA["properties"]) == {*profile, "profile", "profiles"}
    assert set(SCHEMA["$defs"]["fuzz"]["properties"]) == set(FUZZ_KEYS)
    assert profile["faults"]["anyOf"][0]["enum"] == list(FAULT_NAMES)
    for values in BUILT_IN.values():
        jsonschema.validate({"profiles": {"x": dict(values)}}, SCHEMA)


def test_the_schema_takes_what_the_code_takes(tmp_path: Path) -> None:
    jsonschema.validate(table(WHOLE), SCHEMA)


@pytest.mark.parametrize(
    "text",
    ["max_trails = 5", "max_trials = 0", "faults = ['kil']", "fuzz = {order = 77}", "profiles.x.zzz = 1"],
)
def test_the_schema_refuses_what_the_code_refuses(tmp_path: Path, text: str) -> None:
    whole = f"[tool.idemfuzz]\n{text}\n"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(table(whole), SCHEMA)
    with pytest.raises(Unusable):
        configuration(write(tmp_path, whole))


class TestExampleDatabases:
    def test_several_are_written_to_but_for_those_that_are_read_only(self, tmp_path: Path) -> None:
        database = example_database(["directory:mine", "read-only:directory:theirs"], tmp_path)
        assert database is not None
        database.save(b"key", b"value")
        assert set(database.fetch(b"key")) == {b"value"}
        assert (tmp_path / "mine").exists()
        assert not (tmp_path / "theirs").exists()

    def test_redis_and_github(self, tmp_path: Path) -> None:
        assert "RedisExampleDatabase" in repr(example_database(["redis://127.0.0.1:6379/0"], tmp_path))
        assert "ReadOnly" in repr(example_database(["github:shop/shop"], tmp_path))

    @pytest.mark.parametrize("text", ["", "directory:", "github:shop", "ftp://x", "redis://:secret@/x/y/z"])
    def test_what_is_none_is_refused_without_its_password(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(Unusable) as refused:
            database = example_database([text], tmp_path)
            # redis-py takes more forms than it should.
            raise Unusable(f"{type(database).__name__} not usable")
        assert "secret" not in str(refused.value)

    def test_none_is_none(self, tmp_path: Path) -> None:
        assert example_database([], tmp_path) is None
