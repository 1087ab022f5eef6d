"""Nothing of a stranger's run executes in its page: all text is spelled out, and the page's policy allows no more."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mappo.experiments.report.report import MAX_PAGE, report
from recorded_replay import ATTACK, CLOSING, hostile_run
from recorded_runs import changed, evaluated, record_run


class Elements(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return report(hostile_run(tmp_path / "<b onclick=alert(1)>run"))


def test_markup_in_a_run_is_spelled_out(page: Path):
    found = Elements(page)
    tags = [tag for tag, _ in found.tags]
    assert tags.count("script") == 3
    assert not {"img", "iframe", "object", "embed", "base", "form", "b", "svg", "a"} & set(tags)
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")], tag
        assert attributes.get("href") in (None, "data:,")
    assert ATTACK in found.text
    assert "{{ 7*7 }}" in found.text
    assert "\\u202e" in found.text
    assert "\u202e" not in found.text
    assert "\x1b" not in found.text
    assert "replay.gif is damaged" in found.text or "replay.gif cannot be read" in found.text


def test_the_policy_allows_the_scripts_of_the_page_alone(page: Path):
    text = page.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    allowed = policy[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (2, 1)
    for part in (*scripts, *styles):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in allowed
    assert allowed.count("sha256-") == 3
    assert "unsafe" not in allowed
    assert allowed.startswith("default-src 'none'; ")
    assert "http:" not in allowed
    assert "https:" not in allowed


def test_data_of_a_page_is_strict_json_without_markup(page: Path):
    found = re.search(r'id="data">(.*?)</script>', page.read_text())
    assert found is not None
    assert not set("<>&") & set(found[1])

    def refuse(text: str) -> None:
        raise AssertionError(text)

    charts = json.loads(found[1], parse_constant=refuse)["charts"]
    values = [value for line in charts[0]["views"][0]["lines"] for value in line["y"]]
    assert all(value is None or abs(value) <= 1e100 for value in values)


def test_a_hostile_sweep_is_spelled_out(tmp_path: Path):
    header = f"trial,state,eval_return,score,score_low,score_high,cpu_s,pareto,{ATTACK},error"
    rows = [f"{k},complete,{value},inf,nan,1,{value},1,{CLOSING},x" for k, value in enumerate(("-1", "1e99", "5"))]
    (tmp_path / "trials.csv").write_text("\n".join([header, *rows, f"{ATTACK},{CLOSING},,,,,,,,"]) + "\n")
    (tmp_path / "best.json").write_text(json.dumps({"env": ATTACK, "config": {"run": {"seed": ATTACK}}}))
    found = Elements(report(tmp_path))
    assert [tag for tag, _ in found.tags].count("script") == 3
    assert not {"img", "svg"} & {tag for tag, _ in found.tags}
    assert ATTACK in found.text


@pytest.mark.parametrize("kind", ["large", "many", "cut", "directory", "pipe"])
def test_unusable_replays_are_named(kind: str, tmp_path: Path):
    import os

    run = record_run(tmp_path / "run", evaluated(-20))
    file = run / "replay.gif"
    if kind == "large":
        Image.new("P", (4000, 10)).save(file)
    elif kind == "cut":
        Image.new("P", (40, 10)).save(file)
        file.write_bytes(file.read_bytes()[:-12])
    elif kind == "many":
        noise = [Image.effect_noise((400, 400), 90) for _ in range(25)]
        noise[0].save(file, save_all=True, append_images=noise[1:])
    elif kind == "directory":
        file.mkdir()
    else:
        os.mkfifo(file)
    if kind == "pipe":
        with pytest.raises(ValueError, match="a pipe"):
            report(run)
        return
    page = report(run)
    assert page.stat().st_size <= MAX_PAGE
    expected = {
        "large": "pixels are too large",
        "many": "pictures of the replay are shown",
        "cut": "replay.gif",
        "directory": "replay.gif is damaged: a directory, not a file",
    }
    assert expected[kind] in page.read_text()


def test_pages_of_many_groups_and_long_runs_stay_small(tmp_path: Path):
    config = changed(run={"total_steps": 100_000})
    run = record_run(tmp_path / "long", {}, config=config)
    rows = [f"1,{k},{10 * k},-{k % 97},{k}," + ",".join([f"0.{k}"] * 40) for k in range(1, 10_001)]
    names = ",".join(f"metric_{k}" for k in range(40))
    (run / "metrics.csv").write_text(f"seed,update,step,return_sum,eval_return,{names}\n" + "\n".join(rows) + "\n")
    assert report(run).stat().st_size < 1_500_000
