"""The site in a headless Chromium: `make browser`. It needs chromium, npm (for axe-core) and websockets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Page, chromium
from sites import build_site, serve

pytestmark = pytest.mark.browser
LOOKED_AT = ("index", "tutorial", "one_update", "results", "api", "settings", "notebook", "examples")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    """The address of the site: the summaries of a search are fetched, as files may not be."""
    with serve(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, site: str) -> Iterator[Page]:
    """A tab, and after the test: no error in the console, and no request but to the site itself."""
    browser.events.clear()
    yield browser
    assert browser.errors == []
    assert browser.requests
    assert [url for url in browser.requests if not url.startswith((f"{site}/", "data:", "blob:"))] == []


def test_every_page_opens_without_an_error_or_a_request_and_fits_a_phone(page: Page, site: str, folder: Path):
    files = sorted(folder.glob("*.html"))
    assert len(files) > 20
    for file in files:
        page.open(f"{site}/{file.name}")
        headings = page.evaluate("document.querySelectorAll('h1').length")
        assert headings == 1 or file.name == "search.html", file.name
        page.open(f"{site}/{file.name}", width=400)
        wide = "[...document.querySelectorAll('html, .content')].some(x => x.scrollWidth > x.clientWidth)"
        assert not page.evaluate(wide), file.name


@pytest.mark.parametrize(("name", "count"), [("tutorial", 40), ("one_update", 20)])
def test_formulas_are_set(page: Page, site: str, name: str, count: int):
    page.open(f"{site}/{name}.html")
    written = page.evaluate("document.querySelectorAll('.math').length")
    assert written > count
    assert page.evaluate("document.querySelectorAll('.math mjx-container').length") >= written
    # An unknown command is set as red text, without an error.
    assert page.evaluate("document.querySelectorAll('mjx-merror, mjx-mtext[style*=red]').length") == 0


def test_the_search_is_reached_by_keyboard_and_finds_a_term(page: Page, site: str):
    page.open(f"{site}/index.html")
    page.press("/", "/")
    page.wait_for("document.activeElement.name == 'q'")
    page.type("advantage")
    page.press("Enter", "\r")
    page.wait_for("document.querySelector('#search-results')?.innerText.includes('Search finished')")
    found = page.evaluate("[...document.querySelectorAll('#search-results li a')].map(x => x.getAttribute('href'))")
    assert any(link.startswith("glossary.html") for link in found)
    assert any(link.startswith(("tutorial.html", "one_update.html")) for link in found)


def test_the_first_key_leads_past_the_menu(page: Page, site: str):
    page.open(f"{site}/index.html")
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip() == "Skip to content"
    page.press("Enter", "\r")
    page.wait_for("location.hash == '#furo-main-content'")


def test_code_is_copied_by_a_button_that_appears_under_the_mouse(page: Page, site: str):
    page.open(f"{site}/first_run.html")
    opacity = "getComputedStyle(document.querySelector('button.copybtn')).opacity"
    assert page.evaluate(opacity) == "0"
    page.hover("div.highlight")
    page.wait_for(f"{opacity} == '1'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", LOOKED_AT)
def test_axe_finds_nothing_serious(page: Page, site: str, name: str, scheme: str):
    for width in (1400, 400):
        page.open(f"{site}/{name}.html", width=width, scheme=scheme)
        assert page.serious_problems() == [], f"{name}, {width} pixels"


def test_pages_open_from_their_files_too(browser: Page, folder: Path):
    browser.events.clear()
    for name in LOOKED_AT:
        browser.open(f"file://{folder}/{name}.html")
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))] == []
