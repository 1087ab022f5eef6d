"""`mappo envs`: the list of all, the names of a family, and the page of an environment."""

from pathlib import Path

import pytest

from mappo.cli.main import main
from mappo.config.presets import presets_of
from mappo.config.tasks import TASKS
from mappo.envs import FAMILIES, NATIVE, NATIVE_FAMILIES
from mappo.envs.adapters import lbf

ROOT = Path(__file__).parents[2]


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["envs", *args]) == 0
    return capsys.readouterr().out


def row(page: str, label: str) -> str:
    """Return the text behind a label of a page, wherever it is wrapped."""
    lines = iter(page.splitlines())
    first = next(line for line in lines if line.strip().startswith(label + " "))
    indent = len(first) - len(first.strip().removeprefix(label).lstrip())
    found = [first.strip().removeprefix(label)]
    for line in lines:
        if line[:13].strip() or not line.strip():
            break
        found.append(line)
    assert indent > 0
    return " ".join(" ".join(found).split())


@pytest.mark.parametrize("width", [80, 200])
def test_the_list_has_every_name_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int):
    monkeypatch.setenv("COLUMNS", str(width))
    out = shown(capsys)
    words = out.split()
    for name in [
        *NATIVE,
        *(f"{key}/..." for key in NATIVE_FAMILIES | FAMILIES),
        *(kind.examples[0] for kind in FAMILIES.values()),
    ]:
        assert name in words, name
    assert max(map(len, out.splitlines())) <= width


def test_a_page_tells_agents_spaces_horizon_baselines_and_presets(capsys: pytest.CaptureFixture[str]):
    page = shown(capsys, "spread")
    assert row(page, "agents") == "3: agent_0, agent_1, agent_2"
    assert row(page, "each") == "observes Box(-inf, inf, (18,), float32), acts in Discrete(5)"
    assert row(page, "episodes") == "25 steps; 64 truncated"
    assert row(page, "baselines") == "random, planner"
    assert row(page, "original").startswith("mpe2/simple_spread_v3; `mappo evaluate RUN --on mpe2`")
    returns = TASKS["spread"].returns
    assert row(page, "default").startswith(
        f"2,000,000 {min(returns):g} to {max(returns):g} (greedy, {len(returns)} seeds) 1.3"
    )
    assert row(page, "paper").startswith("20,000,000 -27.1 (greedy, 1 seed, 5,000,000 steps) 3")
    assert "random -79.1, planner -23.9" in page


def test_what_was_not_measured_shows_nothing(capsys: pytest.CaptureFixture[str]):
    page = shown(capsys, "mpe2/simple_spread_v3")
    assert row(page, "twin").startswith("spread:")
    assert row(shown(capsys, "lbf/Foraging-5x5-2p-1f-v3"), "twin").startswith("foraging/Foraging-5x5-2p-1f-v3:")
    page = shown(capsys, "foraging/Foraging-5x5-2p-1f-v3")
    assert row(page, "original").startswith("lbf/Foraging-5x5-2p-1f-v3; `mappo evaluate RUN --on lbf`")
    assert row(page, "default") == "2,000,000"
    assert "CPU-minutes are" not in page
    assert "No preset is tuned" in shown(capsys, "probe/signal")


def test_a_page_describes_lives_masks_and_unequal_agents(capsys: pytest.CaptureFixture[str]):
    page = shown(capsys, "battle")
    assert (row(page, "masks"), row(page, "lives"), row(page, "state")) == ("yes", "some die early", "(30,)")
    assert row(page, "reward") == "one number for all, counted once (shared_reward)"
    assert "terminated" in row(page, "episodes")
    assert row(shown(capsys, "probe/respawn"), "lives") == "some die early and some arrive late"
    page = shown(capsys, "probe/mixed")
    assert row(page, "group 1").endswith("acts in Discrete(4)")
    assert "acts in Box(" in row(page, "group 2")


def test_an_endless_episode_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mappo.cli.env_page._MAX_STEPS", 5)
    assert row(shown(capsys, "probe/signal"), "episodes") == "more than 5 steps with random actions"


@pytest.mark.parametrize(
    ("family", "count"), [("foraging", 1920), ("lbf", 1920), ("rware", 228), ("mpe2", 9), ("mamujoco", 15)]
)
def test_all_names_of_a_family_are_listed(capsys: pytest.CaptureFixture[str], family: str, count: int):
    names = shown(capsys, family).split()
    assert len(set(names)) == len(names) >= count
    assert {f"{family}/{name}" for name in (NATIVE_FAMILIES | FAMILIES)[family].examples} <= set(names)
    if family == "lbf":
        for name in names:
            lbf.settings(name.removeprefix("lbf/"))


@pytest.mark.gpl
@pytest.mark.gpl
def test_all_scenarios_of_vmas_are_listed(capsys: pytest.CaptureFixture[str]):
    names = shown(capsys, "vmas").split()
    assert {f"vmas/{name}" for name in FAMILIES["vmas"].examples} < set(names)


def test_a_name_that_is_not_there_gets_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert main(["envs", "spraed"]) == 2
    assert "unknown environment 'spraed'; did you mean 'spread'?" in capsys.readouterr().err


def test_every_measured_score_stands_on_a_page():
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("docs/results.md", "docs/environments.md"))
    for task in TASKS.values():
        assert task.preset in presets_of(task.env)
        for value in (*task.returns, *task.baselines.values()):
            assert task.env in pages
            assert any(text in pages for text in (f" {value:,g}", f" {value:.3f}", f" {value:.1f}")), (task, value)
