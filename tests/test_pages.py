"""The site is built without a warning, and shows what it promises."""

import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import mappo
from mappo.config import Config
from paths import ROOT
from sites import build_site

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Formulas come with the package of MathJax, 23 MB; its files are left out of the copy."""
    return build_site(tmp_path_factory.mktemp("site"))


class Links(HTMLParser):
    """The links, pictures, styles, scripts and anchors of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found.get("id", "")}
        if tag == "a":
            self.links.append(found.get("href", ""))
        elif tag in ("img", "script", "iframe", "link"):
            self.loaded.append(found.get("src") or found.get("href", ""))


def test_pages_load_nothing_from_a_network_and_all_their_links_lead_somewhere(site: Path):
    pages = {page: Links(page) for page in site.glob("*.html")}
    assert len(pages) > 15
    for page, found in pages.items():
        assert not [x for x in found.loaded if re.match("(https?:)?//", x)], page.name
        for target in [*found.loaded, *found.links]:
            path, _, anchor = target.partition("#")
            if not target or re.match(r"\w+:", target):
                continue
            file = (page.parent / path.split("?")[0]).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor and file in pages:
                assert anchor in pages[file].ids, f"{page.name}: {target}"


def test_the_annotated_pages_show_the_source_and_what_it_prints(site: Path):
    tutorial = (site / "tutorial.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", tutorial)
    assert text.count("class MathJax") == 0
    assert tutorial.count('class="math') > 40
    assert "mappo_training_operator is ok" in text
    assert "surrogate = torch.min(ratio * adv" in text
    assert "delta = reward + gamma * alive * next_value - value" in text
    update = re.sub(r"<[^>]+>", "", (site / "one_update.html").read_text(encoding="utf-8"))
    assert "epoch_steps = [learner.gradient_step(minibatch)" in update


def test_the_training_step_of_the_tutorial_is_shown_whole_and_in_order():
    """Every line of the example's step stands on the page once."""
    beside: Any = runpy.run_path(str(DOCS / "_site/beside.py"))
    source = (ROOT / "examples/tutorial.py").read_text(encoding="utf-8")
    page = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    shown: list[int] = []
    for block in re.findall(r":::\{beside\} examples/tutorial\.py\n((?::.*\n)*)", page):
        options = {name: text.strip('"') for name, text in re.findall(r":(\w+): (.*)", block)}
        first, last = beside["find_lines"](source, *(options.get(name, "") for name in ("of", "from", "to")))
        shown += range(first, last + 1)
    assert shown == sorted(set(shown))
    body = {n for name in ("generated_batch", "training_step", "mappo_training_operator") for n in _lines(source, name)}
    lines = source.splitlines()
    assert not [lines[n - 1] for n in sorted(body - set(shown)) if lines[n - 1].strip()]


def _lines(source: str, name: str) -> range:
    beside: Any = runpy.run_path(str(DOCS / "_site/beside.py"))
    first, last = beside["find_lines"](source, name)
    return range(first, last + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("gae", "no such line"), "0 lines begin with"),
        (("gae", "advantage"), "2 lines begin with"),
        (("gae", "delta =", "no end"), "no line after"),
        (("nothing",), "0 definitions"),
    ],
)
def test_an_anchor_that_is_gone_or_found_twice_is_an_error(options: tuple[str, ...], message: str):
    beside: Any = runpy.run_path(str(DOCS / "_site/beside.py"))
    source = (ROOT / "src/mappo/functional/returns.py").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        beside["find_lines"](source, *options)


def test_every_setting_stands_on_the_page_with_its_meaning(site: Path):
    page = re.sub(r"<[^>]+>", "", (site / "settings.html").read_text(encoding="utf-8"))
    for section, fields in Config().to_dict().items():
        for name in fields if isinstance(fields, dict) else ():
            assert f"--{section}.{name.replace('_', '-')}" in page, name
    assert "between 0 and 1" in page


def test_every_public_name_stands_on_the_page_of_the_interface():
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    configs = {"EnvConfig", "NetworkConfig", "PPOConfig", "RunConfig"}  # on the page of the settings
    missing = [name for name in mappo.__all__ if not re.search(rf":: {name}$", page, re.M)]
    assert set(missing) == configs | {"__version__"}


def test_every_file_of_the_examples_stands_on_a_page():
    shown = {file for page in DOCS.glob("*.md") for file in re.findall(r"\{example\} (\S+)", page.read_text("utf-8"))}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "examples").rglob("*") if path.is_file()}
    assert {file for file in files if "__pycache__" not in file} == shown


def test_every_page_stands_in_the_menu():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\w[\w-]*$", "".join(re.findall(r"\{toctree\}(.*?)```", index, re.S)), re.M)
    assert sorted([*listed, "index"]) == sorted(path.stem for path in DOCS.glob("*.md"))


def test_the_notebook_is_shown_with_its_outputs_and_pictures(site: Path):
    page = (site / "notebook.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 2
    text = re.sub(r"<[^>]+>", "", page)
    order = ["Three agents learn", "import mappo", "Look at the curve", "curve.resize", "planner  ", "load_actor("]
    assert sorted(order, key=text.index) == order
    assert 'href="metrics.html"' in page


def test_the_pictures_of_the_tutorial_are_up_to_date():
    drawing: Any = runpy.run_path(str(DOCS / "draw_tutorial.py"))
    for path, svg in drawing["draw"]():
        assert path.read_text(encoding="utf-8") == svg, "run `make house`"
