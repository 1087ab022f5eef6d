"""Links to folders and other pages of the repository become their names; pictures in HTML are copied beside the pages.
Captions of the menu become plain text.

The pages under `docs/` are also read in the repository itself, where such links are paths.
"""

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


def copy_images(app: Sphinx, error: Exception | None) -> None:
    """Copy `docs/images` to the site: pages name pictures in `<img>` by their paths."""
    if error is None and app.builder.format == "html":
        shutil.copytree(DOCS / "images", Path(app.outdir) / "images", dirs_exist_ok=True)


def plain_captions(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Take the role of a heading from the captions of the menu: they have no level, as screen readers expect."""
    if "furo_navigation_tree" in context:
        context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(' role="heading"', "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform and the handlers."""
    app.add_transform(RepositoryLinks)
    app.connect("build-finished", copy_images)
    app.connect("html-page-context", plain_captions, priority=900)  # after furo
    return {"parallel_read_safe": True}
