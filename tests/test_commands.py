"""Every command and every program of the pages runs, shortened, or stands below with the reason why not."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mappo.cli.commands import COMMANDS
from mappo.cli.main import main
from mappo.cli.parsing import parse
from pages import PAGES, SHELL, Block, blocks, commands, without_blocks
from paths import PYTHONPATH, ROOT, TESTS

INSTALLS = "installs packages from an index; tests/test_packaging.py has the targets and the wheel"
REPEATS = "trains two million steps for each seed; tests/experiments/reproduce has the command with short trainings"
NOT_RUN = {
    "make train": INSTALLS,
    "make test": INSTALLS,
    "make install": INSTALLS,
    "make check test": "the tests themselves",
    "make slow": "the tests themselves",
    "make gpu": "needs a GPU",
    "source .venv/bin/activate": "changes the path of a shell",
    "pip install path/to/mappo": INSTALLS,
    "pip install 'path/to/mappo[mpe,lbf]'": INSTALLS,
    "pip install 'path/to/mappo[sweep]'": INSTALLS,
    "pip install onnx onnxscript onnxruntime": INSTALLS,
    "pip install wandb": INSTALLS,
    "mappo reproduce spread": REPEATS,
    "mappo reproduce spread --seeds 3": REPEATS,
    "mappo train vmas/balance": "vmas is under the GPL; make gpl tests it",
    'sbatch --array=1-20 --wrap "mappo sweep spread space.yaml --trials 40"': "needs Slurm",
}
# Options of other programs that texts name: sbatch, pip, TensorBoard.
FOREIGN = {"--signal", "--no-deps", "--logdir"}
# Blocks shown from a file that tests/test_cluster.py runs, by their first lines.
SHOWN_FROM_FILES = ("#SBATCH --job-name", "export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1")
# Commands ahead of a block, by its first line: files that a reader has from elsewhere.
SPACE = next(block.text for block in blocks((ROOT / "docs/sweep.md").read_text("utf-8")) if block.language == "yaml")
AHEAD = {
    "source .venv/bin/activate": f"""
        echo 'from examples.custom_env import Corridor as make_env' > my_module.py
        cat > space.yaml << 'END'\n{SPACE}END
        mappo train spread --run.name a-1
        mappo train spread --run.name b-1 --network.critic-input own""",
    "import mappo\n\nteam": "mappo train speaker_listener",
    "mappo runs": """
        mappo train spread
        mappo train spread --run.name mappo-1
        mappo train spread --run.name ippo-1 --network.critic-input own""",
    "for env in spread": "rm -r runs",
    "mappo train spread --run.processes 4": "",
    "mappo resume runs/spread-1": """
        mappo train spread
        mappo train lbf/Foraging-8x8-2p-2f-coop-v3 --run.name small""",
    "mappo train lbf/Foraging-8x8-2p-2f-coop-v3 --run.seeds 3": "rm -r runs/small",
    "pip install onnx": "mappo train spread",
    "SMALL=": "cd examples",
    "pip install 'path/to/mappo[sweep]'": f"cat > space.yaml << 'END'\n{SPACE}END",
}
# Names that a program takes from its reader's own program.
NAMES = {
    "docs/agents.md": "import torch\nobservations, observation = torch.zeros(4, 2, 11), torch.zeros(11)\n",
    "docs/deploy.md": "import numpy as np\nobservation = np.zeros(18, np.float32)\n",
}


def shell_blocks() -> list[Block]:
    found = [block for page in PAGES for block in blocks(page.read_text("utf-8")) if block.language in SHELL]
    return [block for block in found if not block.text.startswith(SHOWN_FROM_FILES)]


def all_commands() -> list[str]:
    return [command for block in shell_blocks() for command in commands(block.text)]


def test_commands_stand_in_blocks_of_shell():
    """A command in a block of another language would be run by nobody."""
    for page in PAGES:
        for block in blocks(page.read_text("utf-8")):
            if block.language not in (*SHELL, "{run}"):
                assert not re.search(r"^(\$ )?(mappo|make|pip|python) ", block.text, re.M), f"{page.name}: {block.text}"


def test_commands_that_are_not_run_are_on_a_page():
    assert set(NOT_RUN) <= set(all_commands())


def test_blocks_prepared_for_are_on_a_page():
    texts = [block.text for page in PAGES for block in blocks(page.read_text("utf-8"))]
    assert not [start for start in AHEAD if not any(text.startswith(start) for text in texts)]


def test_every_command_of_mappo_on_a_page_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    checked = 0
    for line in all_commands():
        for command in re.findall(r"\bmappo ((?:[a-z]+)\b[^;&\"]*)", line):
            words = shlex.split(command.replace("$env", "spread").replace("$SMALL", ""))
            if words[0] in COMMANDS and "--help" not in words:
                parse(words)
                checked += 1
    assert checked > 60


def test_every_option_named_in_a_text_is_known(capsys: pytest.CaptureFixture[str]):
    """By a command of mappo, a benchmark or a stress test."""
    for command in COMMANDS:
        arguments = {"train": ["spread"], "sweep": ["spread", "space.yaml"]}.get(command, [])
        assert main([command, *arguments, "--help-all" if arguments else "--help"]) == 0
    known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out)) | {"--help", "--help-all"}
    for path in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tests/stress/*.py")]:
        known |= set(re.findall(r"\"(--[a-z][\w-]*)\"", path.read_text("utf-8")))
    for page in PAGES:
        text = without_blocks(page.read_text("utf-8"))
        if page.name == "coming_from.md":  # the first column has the names of other libraries
            text = re.sub(r"^\|[^|]*\|", "|", text, flags=re.M)
        named = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", text)) - FOREIGN
        assert named <= known, f"{page.name}: {named - known}"


def test_every_target_of_make_on_a_page_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in PAGES:
        text = page.read_text("utf-8")
        named = re.findall(r"^make ((?:[a-z]+ ?)+)", text, re.M) + re.findall(r"`make ([a-z ]+)", text)
        assert {target for words in named for target in words.split()} <= targets, page.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the examples, in which `mappo` and `python` are short runs."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"mappo": "mappo ", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {TESTS}/support/shortened.py {words}"$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path


def program(block: Block, page: str) -> str:
    """Return the shell commands that run a block."""
    if block.language in SHELL:
        return "\n".join(line for line in block.text.splitlines() if [*commands(line), ""][0] not in NOT_RUN)
    if block.language == "python":
        name = re.match(r"# (\w+\.py)\n", block.text)
        text = NAMES.get(page, "") + block.text
        save = f"cat > {name[1] if name else 'program.py'} << 'END'\n{text}END"
        return save if name else f"{save}\npython program.py"
    includes = [line for line in block.text.splitlines() if line.startswith("#include")]
    body = block.text.split(includes[-1])[1]
    text = "\n".join([*includes, "int main(void) { int is_first = 1;", body, "return 0; }\n"])
    build = "cc -std=c99 -I $F main.c $F/policy.c -lm -o main && ./main"
    return f"F=runs/spread-1/export/agent_0\ncat > main.c << 'END'\n{text}END\n{build}"


def script(page: str) -> str:
    """Return a page's commands and programs as a script of bash."""
    parts: list[str] = []
    for block in blocks((ROOT / page).read_text("utf-8")):
        if block.language in (*SHELL, "python", "c") and not block.text.startswith(SHOWN_FROM_FILES):
            parts += [text for start, text in AHEAD.items() if block.text.startswith(start)]
            parts.append(f"({program(block, page)}\n)" if block.text.startswith("cd ") else program(block, page))
    return "\n".join(parts)


RUN = [name for name in (str(page.relative_to(ROOT)) for page in PAGES) if script(name).strip()]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_and_programs_of_a_page_run(page: str, folder: Path):
    paths = [str(TESTS / "support/fake_trackers"), PYTHONPATH]
    path = f"{folder}/bin{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(paths)}
    command = ["bash", "-e", "-u", "-x", "-c", script(page)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
