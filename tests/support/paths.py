"""Folders of the repository, and the PYTHONPATH by which other processes find the support modules."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
DATA = TESTS / "data"
_FOLDERS = [str(TESTS / "support"), str(TESTS / "stress")]
PYTHONPATH = os.pathsep.join([*_FOLDERS, *filter(None, [os.environ.get("PYTHONPATH")])])
