"""Help texts: every option is there, words are whole, and the short help has the settings of most use."""

import re
from typing import Any

import pytest

from mappo.cli.commands import COMMANDS
from mappo.cli.help import SHORT
from mappo.cli.main import main
from mappo.cli.parsing import parse
from paths import ROOT

WIDTHS = [60, 80, 200]
ASKED = [
    *([name, "--help"] for name in COMMANDS),
    *(["--help"], ["train", "spread", "--help"], ["train", "spread", "--help-all"], ["sweep", "--help-all"]),
]


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def spread(out: str) -> str:
    """Join the words of a help text into one line."""
    return " ".join(out.split())


@pytest.mark.parametrize("args", ASKED, ids=" ".join)
def test_a_help_has_the_same_whole_words_at_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: list[str]
):
    texts: list[str] = []
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        texts.append(shown(capsys, *args))
        longest = max(texts[-1].splitlines(), key=len)
        assert len(longest) <= min(width, 100) or len(longest.split()) <= 4, longest  # four: an option and its choices
    assert len({spread(text) for text in texts}) == 1


@pytest.mark.parametrize("args", [["train", "spread"], ["sweep", "spread", "space.yaml"], ["evaluate"], ["resume"]])
def test_tyro_knows_every_option_of_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, args: list[str]
):
    """tyro reads the command line, and this help is mappo's own: neither may have an option that the other lacks."""
    known: set[str] = set()

    def read(kind: type, default: Any = None, **_: Any) -> Any:
        import tyro

        with pytest.warns(DeprecationWarning, match="get_parser"):
            parser = tyro.extras.get_parser(kind)
        known.update(word for action in parser._actions for word in action.option_strings)
        return default

    monkeypatch.setattr("mappo.cli.parsing.tyro.cli", read)
    parse(args)
    rows = [row for row in shown(capsys, *args, "--help-all").splitlines() if row.startswith("  --")]
    named = {word for row in rows for word in re.findall(r"--[a-z][\w.-]*", row.strip().split("  ")[0])}
    assert named == known - {"-h", "--help", "--no-grid"}  # this one states the default


def test_the_short_help_has_ten_settings_with_the_defaults_of_the_preset(capsys: pytest.CaptureFixture[str]):
    out = spread(shown(capsys, "train", "spread", "--preset", "paper", "--help"))
    for name in SHORT:
        assert f"--{name} " in out
    assert len(SHORT) == 10
    assert "--ppo.actor-lr FLOAT Initial learning rate of the actor. (default: 0.0007)" in out
    assert "--ppo.clip-ratio" not in out
    assert "mappo train spread --help-all" in out


def test_presets_are_named_where_the_environment_is_known(capsys: pytest.CaptureFixture[str]):
    assert "--preset {default,long,continuous,paper}" in shown(capsys, "train", "spread", "--help")
    assert "--preset {default} " in spread(shown(capsys, "train", "battle", "--help"))
    assert "--preset TEXT" in shown(capsys, "train", "--help")


def test_a_value_of_none_is_named_only_where_it_changes_something(capsys: pytest.CaptureFixture[str]):
    out = shown(capsys, "train", "spread", "--help-all")
    assert "--ppo.max-grad-norm FLOAT|None" in out
    assert "--ppo.value-clip FLOAT  " in out
    assert "{None}" not in out
    assert "--network.agent-id {True,False}" in out
    assert "--run.graphs, --run.no-graphs" in out


def test_the_page_of_the_settings_has_the_short_help_for_readers_without_its_directives(
    capsys: pytest.CaptureFixture[str],
):
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `--(\S+)` \| (.*?) ?\| (.+) \|$", page, re.M)
    assert tuple(name for name, _, _ in rows) == SHORT
    out = spread(shown(capsys, "train", "--help"))
    for name, default, text in rows:
        assert f"--{name} " in out
        assert f"{text} (default: {default})" in out if default else f"{text} --" in out, name
