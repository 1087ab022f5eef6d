"""Links to folders and other pages of the repository become their names; pictures in HTML are copied beside the pages.
Captions of the menu become plain text, and intervals in tables keep to a line.

The pages under `docs/` are also read in the repository itself, where such links are paths.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

DOCS = Path(__file__).resolve().parents[1]


class RepositoryLinks(SphinxTransform):
    """Replaces links out of the site by their text, and links to the README by links to the first page."""

    default_priority = 5

    def apply(self, **_: Any) -> None:
        """Change the links of a page."""
        for link in list(self.document.findall(addnodes.pending_xref)):
            target = str(link.get("reftarget", ""))
            page = DOCS.parent / (Path(target).name + ".md")
            if target.startswith("/") and page.name == "README.md":
                link["reftarget"] = "index"
                link["reftargetid"] = None
            elif (DOCS / target).is_dir() or (target.startswith("/") and page.exists()):
                link.replace_self(nodes.inline("", "", *link.children))


class Intervals(SphinxTransform):
    """Keeps a number and its interval, `-25.2 (-26.4 to -24.0)`, on a line of a table."""

    default_priority = 900

    def apply(self, **_: Any) -> None:
        """Put non-breaking spaces into the intervals."""
        for entry in self.document.findall(nodes.entry):
            for text in list(entry.findall(nodes.Text)):
                kept = re.sub(r"[-+.\d]+ \([-+.\d]+ to [-+.\d]+\)", lambda m: m[0].replace(" ", "\u00a0"), str(text))
                text.parent.replace(text, nodes.Text(kept))


def copy_images(app: Sphinx, error: Exception | None) -> None:
    """Copy `docs/images` to the site: pages name pictures in `<img>` by their paths."""
    if error is None and app.builder.format == "html":
        shutil.copytree(DOCS / "images", Path(app.outdir) / "images", dirs_exist_ok=True)


def plain_captions(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Take the role of a heading from the captions of the menu: they have no level, as screen readers expect."""
    if "furo_navigation_tree" in context:
        context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(' role="heading"', "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transforms and the handlers."""
    app.add_transform(RepositoryLinks)
    app.add_transform(Intervals)
    app.connect("build-finished", copy_images)
    app.connect("html-page-context", plain_captions, priority=900)  # after furo
    return {"parallel_read_safe": True}
