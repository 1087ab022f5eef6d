"""The site of the pages, built into a folder."""

import subprocess
import sys
from pathlib import Path

from paths import ROOT


def build_site(folder: Path) -> Path:
    """Build the site; fail at any warning of Sphinx. Return the folder of its pages."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", folder / "trees"]
    done = subprocess.run(
        [*command, ROOT / "docs", folder / "html"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"
