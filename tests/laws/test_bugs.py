"""Each planted bug has its place in the code, and its tests exist."""

import re

from bugs import BUGS
from paths import TESTS

SOURCES = TESTS.parent / "src" / "mappo"


def test_each_planted_bug_has_its_place():
    places = {bug.name: (SOURCES / bug.file).read_text(encoding="utf-8").count(bug.old) for bug in BUGS}
    assert {name: count for name, count in places.items() if count != 1} == {}


def test_the_tests_of_each_planted_bug_exist():
    missing = []
    for name in sorted({name for bug in BUGS for name in bug.tests.split()}):
        file, _, test = name.partition("::")
        code = (TESTS / file).read_text(encoding="utf-8")
        if test and not re.search(rf"^def {test.split('[')[0]}\(", code, re.MULTILINE):
            missing.append(name)
    assert missing == []
