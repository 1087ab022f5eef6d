"""The pages say what the program does."""

import json
import re
import runpy
from dataclasses import replace

import mappo
from pages import without_blocks
from paths import ROOT


def test_every_metric_is_explained(tmp_path):
    config = mappo.preset("spread")
    config = replace(
        config,
        env=replace(config.env, num_envs=8),
        run=replace(config.run, total_steps=200, eval_episodes=4, dir=str(tmp_path / "run"), progress="off"),
    )
    mappo.train("spread", config)
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.M))))
    for name in ("metrics.csv", "timing.csv"):
        header = (tmp_path / "run" / name).read_text(encoding="utf-8").splitlines()[0]
        assert set(header.split(",")) <= explained


def anchors(page: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and MyST name them."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_between_pages_lead_somewhere():
    """To pages and their headings, to files of the repository, and to pictures."""
    texts = {page: page.read_text("utf-8") for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    texts |= {page: page.read_text("utf-8") for page in (ROOT / "benchmarks").rglob("*.md")}
    notebook = ROOT / "examples/first_steps.ipynb"
    cells = [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "markdown"]
    texts[notebook] = "\n".join("".join(cell["source"]) for cell in cells)
    assert len(texts) > 25
    for page, text in texts.items():
        links = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text)
        links += [(source, "") for source in re.findall(r'src="([^"]+)"', text)]
        for link, anchor in links:
            if link.startswith(("http:", "https:")):
                continue
            target = (page.parent / link).resolve() if link else page
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target in texts:
                assert anchor in anchors(texts[target]), f"{page.name}: {link}#{anchor}"


def test_code_that_a_link_names_is_in_the_linked_file():
    named = 0
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for name, link in re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", page.read_text(encoding="utf-8")):
            if not name.endswith(".py"):
                source, (*owner, own) = (page.parent / link).read_text(encoding="utf-8"), name.split(".")
                assert re.search(rf"^\s*(def|class) {own}\b", source, re.M), f"{page.name}: {name} is not in {link}"
                assert all(f"class {part}" in source for part in owner if part != "mappo"), f"{page.name}: {name}"
                named += 1
    assert named > 30


def test_the_picture_of_the_house_is_up_to_date():
    house = runpy.run_path(str(ROOT / "docs/draw_house.py"))
    assert house["PICTURE"].read_text(encoding="utf-8") == house["draw"](), "run `make house`"


def test_every_promise_names_tests_that_are_there():
    page = (ROOT / "docs/promises.md").read_text(encoding="utf-8")
    promises = [row for row in re.findall(r"^\| .*", page, re.M) if "test_" in row]
    assert len(promises) > 30
    for row in promises:
        named = re.findall(r"`([\w/]*test_\w+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{name}"
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "fuzz:" in made
    assert "soak:" in made


def test_the_training_step_in_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    step = next(block for block in blocks if "ppo_policy_error" in block)
    names: dict[str, object] = {}
    exec(step, names)
    model = names["model"]
    assert isinstance(model, mappo.CTDEActorCriticNetwork)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
