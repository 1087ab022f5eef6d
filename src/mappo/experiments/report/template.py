"""The HTML of a page: a template filled with content, with all of its style, scripts and pictures inside.

Text of a run is never markup: the template escapes each value, and charts get their text as JSON. A content security
policy allows the scripts and the style of the page by their hashes, and nothing else.
"""

import base64
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from mappo._version import __version__
from mappo.errors import UserError
from mappo.experiments.report.content import Chart, Page, Replay
from mappo.system.packages import pip_install
from mappo.system.safe_read import printable

_SCRIPTS = ("charts.js", "lines.js", "points.js", "replay.js")
_FOLDER = Path(__file__).parent / "page"
MAX_TEXT = 300  # characters of a text in the page
MAX_LONG = 20_000  # of a command
# The plotting library D3, as the package mpld3 brings it.
_PACKAGE = "mpld3"
_LIBRARY = "mpld3/js/d3.v5.min.js"


def fill_template(page: Page) -> str:
    """Return the HTML of a page.

    Raises:
        UserError: the package of the plotting library is missing.
    """
    style = _own_file("page.css")
    library = _read_library()
    script = "\n".join(map(_own_file, _SCRIPTS))
    charts = [block.data for block in page.blocks if isinstance(block, Chart)]
    replays = [block.data for block in page.blocks if isinstance(block, Replay) and block.data]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = _whole
    return environment.get_template("page.html").render(
        page=page,
        version=__version__,
        policy=Markup(_security_policy([library, script], style)),
        style=Markup(style),
        library=Markup(library),
        script=Markup(script),
        licence=_own_file("d3_license.txt"),
        data=Markup(_to_json({"charts": charts, "replays": replays})),
    )


def _own_file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _read_library() -> str:
    """Return the source of D3."""
    try:
        file = Path(str(metadata.distribution(_PACKAGE).locate_file(_LIBRARY)))
        return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (metadata.PackageNotFoundError, OSError):
        command = pip_install(f"{_PACKAGE}>=0.5.10")
        raise UserError(f"{_PACKAGE}, with the plotting library of reports, is not installed: {command}") from None


def _security_policy(scripts: list[str], style: str) -> str:
    """Return the content security policy of a page with these scripts and this style."""

    def source(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    allowed = " ".join(map(source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {source(style)}; img-src data:; base-uri 'none'; "
        f"form-action 'none'"
    )


def _whole(text: str) -> Markup:
    """Return a long text as escaped markup, which `_finalize` leaves whole."""
    return escape(short_text(text, MAX_LONG))


def _finalize(value: Any) -> Any:
    """Return a value for the page: texts are printable and not too long."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return short_text(value)


def short_text(text: str, most: int = MAX_TEXT) -> str:
    """Return a text with control and direction characters spelled out, and of a long text the beginning."""
    return printable(text if len(text) <= most else f"{text[:most]}...", keep="\n")


def _to_json(data: Any) -> str:
    """Return JSON that may stand in an HTML page: no character of it begins a tag or an entity."""
    text = json.dumps(_plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(data: Any) -> Any:
    """Return JSON types with short, printable texts; pictures are left as they are."""
    if isinstance(data, dict):
        items: Any = data.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {str(key): value if key == "png" else _plain(value) for key, value in items}
    if isinstance(data, list | tuple):
        values: Any = data  # pyright: ignore[reportUnknownVariableType]
        return [_plain(value) for value in values]
    return short_text(data) if isinstance(data, str) else data
