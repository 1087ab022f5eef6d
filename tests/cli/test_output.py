"""Output into pipes and files, as in a container or on a cluster: each line is there when it is printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mappo.cli.results import print_score

# Raw writes show what has left the process at their time.
PROGRAM = """
import os, sys, warnings
from mappo.system.stdio import prepare_streams, warn_in_one_line
prepare_streams()
warn_in_one_line()
for number, stream in ((1, sys.stdout), (2, sys.stderr)):
    print("Scoring ...", file=stream)
    os.write(number, b"table\\n")
    print("first\\nsecond half", file=stream, end="")
    if "unbuffered" in sys.argv:
        os.write(number, b"|")
    print(" done", file=stream)
    os.write(number, b"end\\n")
warnings.warn("noted")
os.write(2, b"last\\n")
sys.stdout.write("x" * 100_000 + "\\n")
os.write(1, b"y\\n")
"""


@pytest.mark.parametrize("how", ["plain", "PYTHONUNBUFFERED=1", "-u"])
@pytest.mark.parametrize("target", ["pipe", "file"])
def test_each_line_is_there_at_once(how: str, target: str, tmp_path: Path):
    is_unbuffered = how != "plain"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    if how.startswith("PYTHON"):
        environment["PYTHONUNBUFFERED"] = "1"
    flags = ["-u"] if how == "-u" else []
    words = ["unbuffered"] if is_unbuffered else []
    out, err = (tmp_path / name for name in ("out", "err"))
    command = [sys.executable, *flags, "-c", PROGRAM, *words]
    if target == "pipe":
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        texts = [done.stdout, done.stderr]
    else:
        with open(out, "a") as stdout, open(err, "a") as stderr:
            subprocess.run(command, env=environment, stdout=stdout, stderr=stderr, timeout=600)
        texts = [name.read_text() for name in (out, err)]
    bar = "|" if is_unbuffered else ""
    expected = f"Scoring ...\ntable\nfirst\nsecond half{bar} done\nend\n"
    assert texts[0] == expected + "x" * 100_000 + "\ny\n"
    assert texts[1].startswith(expected)
    assert "noted" in texts[1]
    assert texts[1].endswith("last\n")


def test_no_code_closes_the_output_of_the_program():
    program = """
import sys
from mappo.system.stdio import prepare_streams
prepare_streams()
for stream in (sys.stdout, sys.stderr):
    stream.close()
    stream.buffer.close()
    print("still here", file=stream)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr, done.returncode) == ("still here\n", "still here\n", 0)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_score_keeps_its_policies_and_its_numbers_whole_in_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(width))
    low = {"mean": -1234.5, "ci95": [-1254.5, -1214.5]}
    baseline = {"mean": -2000.1, "ci95": [-2033.1, -1967.1], "difference": {"mean": 765.6, "ci95": [725.6, 805.6]}}
    facts = {"env": "battle", "package_version": "x 1", "episodes": 320, "checkpoint": "last", "policy": "greedy"}
    policies = {name: {"return_sum": low} for name in ("greedy", "sampled")}
    print_score({**facts, "scores": policies, "baselines": {"random": baseline}})
    out = capsys.readouterr().out
    for text in ("run (greedy)", "run (sampled)", "random", "-1,234", "-1,254", "-2,033", "+766", "+726", "+806"):
        assert text in out
    assert max(len(line) for line in out.splitlines() if line[:1] in "┏┃┡│└") <= width
