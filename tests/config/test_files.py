"""Files of settings: YAML and JSON alike, strict, and harmless."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mappo.cli.parsing import parse
from mappo.config.files import read_settings
from mappo.errors import UserError

SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
DATA = st.recursive(SCALARS | TEXTS, lambda x: st.lists(x, max_size=3) | st.dictionaries(TEXTS, x, max_size=3))


def read(folder: Path, text: str, name: str = "c.yaml") -> Any:
    (folder / name).write_text(text, encoding="utf-8")
    return read_settings(folder / name)


@settings(max_examples=30)
@given(DATA)
def test_a_yaml_file_of_json_is_read_like_the_json_file(tmp_path_factory: pytest.TempPathFactory, data: Any):
    folder = tmp_path_factory.getbasetemp()
    text = json.dumps(data, ensure_ascii=False)
    assert read(folder, text) == data == read(folder, text, "c.json")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("1e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("-3", -3), ("010", 10), ("1_000", "1_000"), ("0x10", "0x10")),
        *(("true", True), ("no", "no"), ("on", "on"), ("null", None), ("~", None), (".nan", ".nan")),
        *(("2026-01-01", "2026-01-01"), ("1:30", "1:30"), ('"1"', "1"), ("'true'", "true"), ("!!int 7", 7)),
    ],
)
def test_plain_words_mean_what_they_mean_in_json(tmp_path: Path, word: str, value: Any):
    found = read(tmp_path, f"x: {word}  # a comment\n")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "the name in line 3 is given twice"),
        ("a: &x [1]\nb: *x\n", "line 1 is used twice by an alias"),
        ("a: [1\nb: 2\n", "not valid YAML in line 2"),
        ("a: 1\n---\nb: 2\n", "not valid YAML in line 2"),
        ("? [1, 2]\n: 3\n", "the name in line 1 must be a text"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("\0", "not valid YAML"),
    ],
)
def test_a_damaged_yaml_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_yaml_file_makes_no_objects(tmp_path: Path):
    assert read(tmp_path, "a: !!python/object/apply:os.system ['touch x']\n") == {"a": ["touch x"]}
    assert not (tmp_path / "x").exists()


def test_a_config_may_be_yaml(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("ppo:\n  actor_lr: 3e-4\nnetwork: {hidden: [8, 8]}\n")
    (tmp_path / "c.json").write_text('{"ppo": {"actor_lr": 0.0003}, "network": {"hidden": [8, 8]}}')
    configs = [parse(["train", "spread", "--config", str(tmp_path / name)]).config for name in ("c.yaml", "c.json")]
    assert configs[0] == configs[1]
    assert configs[0].ppo.actor_lr == 3e-4
    (tmp_path / "c.yaml").write_text("ppo:\n  actor_lr: none\n")
    with pytest.raises(UserError, match=r"c\.yaml: ppo.actor-lr must be of type float, got 'none'"):
        parse(["train", "spread", "--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c.json", "c.json: not valid JSON in line 1: Expecting value"),
        ("settings", "settings: not valid JSON in line 1: Expecting value; the name of a YAML file ends in .yaml"),
    ],
)
def test_a_file_that_is_no_json_is_refused_with_its_line(tmp_path: Path, name: str, message: str):
    (tmp_path / name).write_text("ppo:\n  gamma: 0.9\n")
    with pytest.raises(UserError) as error:
        parse(["train", "spread", "--config", str(tmp_path / name)])
    assert str(error.value).endswith(message)
