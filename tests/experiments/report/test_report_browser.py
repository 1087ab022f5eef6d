"""Pages of runs in a headless Chromium: `make browser`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Page, chromium
from mappo.experiments.report.report import report
from recorded_replay import film, hostile_run
from recorded_runs import evaluated, record_run, record_study

pytestmark = pytest.mark.browser
TRIALS = """trial,state,eval_return,score,score_low,score_high,cpu_s,pareto,ppo.gamma,ppo.epochs,error
0,complete,-30.0,-31.0,-32.0,-30.0,5.0,1,0.9,5,
1,complete,-20.0,-21.0,-22.0,-20.0,9.0,1,0.99,500,
2,pruned,-60.0,,,,2.0,0,0.5,50,
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """A tab, and after the test: no error in the console, and no request but for the page itself."""
    browser.events.clear()
    yield browser
    assert browser.errors == []
    assert browser.requests
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    run = record_run(folder / "run", evaluated(-20), [-20.0, -22.0, -24.0])
    film(run / "replay.gif")
    record_study(folder / "study")
    (folder / "sweep").mkdir()
    (folder / "sweep/trials.csv").write_text(TRIALS)
    return {
        "run": report(run),
        "study": report(folder / "study", folder / "study.html"),
        "sweep": report(folder / "sweep"),
        "hostile": report(hostile_run(folder / "hostile")),
    }


NAMES = ("run", "study", "sweep", "hostile")
TIP = "document.querySelector('.tip')?.innerText ?? ''"
MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_draws_its_charts_without_an_error_and_fits_a_phone(page: Page, pages: dict[str, Path], name: str):
    for width in (1400, 400):
        page.open(pages[name].as_uri(), width=width)
        page.wait_for("document.querySelectorAll('[data-chart] > svg').length == data.charts.length")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.querySelectorAll('.line, .mark').length") >= 2


def test_the_mouse_gets_the_numbers_of_a_curve(page: Page, pages: dict[str, Path]):
    page.open(pages["run"].as_uri())
    page.wait_for("document.querySelector('[data-chart] > svg')")
    assert page.evaluate(TIP) == ""
    page.hover("[data-chart] > svg")
    page.wait_for("document.querySelector('.tip') !== null")
    shown = page.evaluate(TIP)
    assert "step 400" in shown  # the nearest evaluation
    assert f"Greedy evaluation\t{MINUS}26" in shown
    assert f"random\t{MINUS}80" in shown


def test_arrow_keys_move_along_a_curve_and_names_hide_lines(page: Page, pages: dict[str, Path]):
    page.open(pages["run"].as_uri())
    page.wait_for("document.querySelector('[data-chart] > svg')")
    page.evaluate("document.querySelector('[data-chart] > svg').focus()")
    for step in (200, 400):
        page.press("ArrowRight")
        assert f"step {step}" in page.evaluate(TIP)
    count = "document.querySelectorAll('[data-chart=\"0\"] > svg .line.dots').length"
    assert page.evaluate(count) == 1
    page.evaluate("[...document.querySelectorAll('.legend button')].find(x => x.innerText.includes('Greedy')).click()")
    assert page.evaluate(count) == 0


def test_the_mouse_gets_the_trial_under_it(page: Page, pages: dict[str, Path]):
    page.open(pages["sweep"].as_uri())
    page.wait_for("document.querySelector('[data-chart] .mark') !== null")
    assert page.evaluate("document.querySelectorAll('[data-chart] .ring').length") == 2
    page.hover("[data-chart] .mark")
    page.wait_for("document.querySelector('.tip') !== null")
    shown = page.evaluate(TIP)
    assert "trial 1, complete" in shown
    assert "ppo.gamma\t0.99" in shown


def test_a_replay_is_stepped_and_played(page: Page, pages: dict[str, Path]):
    page.open(pages["run"].as_uri())
    text = "document.querySelector('output').innerText"
    page.wait_for(f"{text} != ''")
    green = "document.querySelector('canvas').getContext('2d').getImageData(12, 15, 1, 1).data[1]"

    def click(name: str) -> None:
        page.evaluate(f"document.querySelector('[aria-label=\"{name}\"]').click()")

    assert page.evaluate(text) == "episode 1, seed 7 step 0 return 0.00"
    assert page.evaluate(green) > 200
    click("next picture")
    assert page.evaluate(text) == "episode 1, seed 7 step 1 return -1.00"
    assert page.evaluate(green) < 100
    click("a picture back")
    assert page.evaluate(green) > 200
    click("play")
    page.wait_for(f"{text}.includes('episode 2')")
    click("pause")
    stopped = page.evaluate(text)
    page.evaluate("new Promise(done => setTimeout(done, 400))")
    assert page.evaluate(text) == stopped


def test_nothing_of_a_hostile_run_executes(page: Page, pages: dict[str, Path]):
    page.open(pages["hostile"].as_uri())
    page.wait_for("document.querySelector('[data-chart] > svg')")
    page.hover("[data-chart] > svg")
    page.wait_for("document.querySelector('.tip') !== null")
    change = "x => { x.selectedIndex = 1; x.dispatchEvent(new Event('change')); }"
    page.evaluate(f"document.querySelectorAll('select').forEach({change})")
    assert page.evaluate("document.title") == "hostile"
    assert page.evaluate("document.querySelectorAll('img, script[src], [onload], [onerror]').length") == 0


def test_the_policy_of_a_page_blocks_other_scripts_and_requests(browser: Page, pages: dict[str, Path]):
    browser.events.clear()
    browser.open(pages["run"].as_uri())
    browser.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}))"
    )
    assert browser.evaluate("document.title") == "run"
    assert browser.evaluate("fetch('https://example.invalid/').then(() => true, () => false)") is False
    assert sum("Content Security Policy" in error for error in browser.errors) >= 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing_serious(page: Page, pages: dict[str, Path], name: str, scheme: str):
    for width in (1400, 400):
        page.open(pages[name].as_uri(), width=width, scheme=scheme)
        page.wait_for("document.querySelector('[data-chart] > svg')")
        assert page.serious_problems() == [], f"{name}, {width} pixels"
