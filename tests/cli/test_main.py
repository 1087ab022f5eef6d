"""The command line: exit codes, messages, and what is printed where."""

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mappo
from mappo.algorithms.mappo import MAPPO
from mappo.cli.main import main
from mappo.config.presets import TWINS
from mappo.envs.batched.spread import Spread
from mappo.evaluation import progress, score_run as evaluate
from mappo.evaluation.options import ReplayOptions
from mappo.runs import checkpoint, directory as rundir
from mappo.runs.logger import RunLogger
from mappo.system.packages import install_command
from mappo.training import train as trainer

SMALL = [
    *("--env.num-envs", "32", "--network.hidden", "16", "--ppo.epochs", "1", "--ppo.minibatches", "1"),
    *("--run.total-steps", "6400", "--run.eval-interval", "3200", "--run.eval-episodes", "256"),
]
COMMANDS = ["train", "resume", "evaluate", "play", "bench"]
Told = Callable[..., tuple[int, str, str]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """Runs a command; answers its exit code, standard output and standard error, with boxes and line ends taken out."""

    def run(*args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in args])
        streams = capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in streams.out + streams.err
        out, err = (" ".join(re.sub("[│╭╮╰╯─]", " ", text).split()) for text in streams)
        return code, out, err

    return run


@pytest.fixture(autouse=True)
def _no_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """The original package takes 15 seconds for a score."""
    monkeypatch.delitem(TWINS, "spread")


@pytest.fixture(autouse=True)
def _no_progress() -> Iterator[None]:
    """Whether a command notes its progress depends on the speed of the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "INTERVAL", math.inf)
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A short run, made by the command line, and what it printed."""
    path = tmp_path_factory.mktemp("runs") / "short"
    with pytest.MonkeyPatch.context() as patch:
        draw, shown = evaluate.draw_replay, []
        patch.delitem(TWINS, "spread", raising=False)
        single = ReplayOptions(episodes=1)  # of four
        patch.setattr(evaluate, "draw_replay", lambda path, *_, **__: draw(path, single))
        patch.setattr("builtins.print", lambda *text, **_: shown.append(" ".join(map(str, text))))
        assert main(["train", "spread", "--run.dir", str(path), "--run.progress", "off", *SMALL]) == 0
    return path, "\n".join(shown)


@pytest.fixture
def run(trained: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(trained[0], tmp_path / "copy"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures as small as they get."""
    monkeypatch.setattr(Spread, "render", lambda *_: np.zeros((4, 4, 3), dtype=np.uint8))
    monkeypatch.setattr("mappo.training.session.draw_curve", lambda *_: None)


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(told: Told, args: list[str]):
    code, out, err = told(*args)
    assert (code, err) == (0, "")
    for command in [*COMMANDS, "mappo train spread", "mappo train spread --help"]:
        assert command in out


def test_the_version_is_that_of_the_package(told: Told):
    assert told("--version") == (0, f"mappo {mappo.__version__}", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(told: Told, command: str):
    code, out, err = told(command, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: mappo {command}" in out


def test_messages_come_before_torch_is_loaded():
    calls = [
        *([], ["--help"], ["--version"], ["nope"], ["train", "--help"], ["train", "spread", "--help-all"]),
        *(["train", "spraed"], ["train", "spread", "--ppo.gamma", "nan"], ["train", "spread", "--preset", "nope"]),
        *(["bench", "--help"], ["bench", "--rounds", "0"]),
    ]
    code = f"import sys; from mappo.cli.main import main; print([main(c) for c in {calls}])"
    code += "; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[0, 0, 0, 2, 0, 0, 2, 2, 2, 0, 2]")


MISTAKES = {
    "command": (["trian", "spread"], "unknown command 'trian'; did you mean 'train'? There are: train, sweep, resume"),
    "no command": (["x"], "unknown command 'x'. There are: train, sweep, resume, evaluate, play"),
    "environment": (["train", "spraed"], "unknown environment 'spraed'; did you mean 'spread'?"),
    "probe": (["train", "probe/signl"], "did you mean 'probe/signal'?"),
    "no environment": (["train"], "Missing from mappo train: ENV"),
    "environment last": (["train", "--run.seed", "1", "spread"], "the environment comes first"),
    "preset": (["train", "spread", "--preset", "papr"], "unknown preset 'papr' for spread; did you mean 'paper'?"),
    "option": (["train", "spread", "--ppo.gama", "0.9"], "Perhaps you meant: --ppo.gamma"),
    "option of evaluate": (["evaluate", "x", "--episode", "4"], "Perhaps you meant: --episodes"),
    "no number": (["train", "spread", "--run.seed", "one"], "Error parsing --run.seed"),
    "no choice": (["train", "spread", "--env.reward", "both"], "invalid choice 'both'"),
    "minibatches": (
        ["train", "spread", "--env.num-envs", "8", "--ppo.rollout-length", "25", "--ppo.minibatches", "3"],
        "ppo.minibatches 3 does not divide ppo.rollout-length x env.num-envs = 25 x 8 = 200; nearest that does: 2",
    ),
    "no environments": (["train", "spread", "--env.num-envs", "0"], "mappo: --env.num-envs must be at least 1, got 0"),
    "negative steps": (["train", "spread", "--run.total-steps", "-5"], "run.total-steps must be at least 1, got -5"),
    "no layer": (["train", "spread", "--network.hidden"], "network.hidden needs at least one layer"),
    "no width": (["train", "spread", "--network.hidden", "64", "0"], "network.hidden must be at least 1, got 0"),
    "nan": (["train", "spread", "--ppo.gamma", "nan"], "ppo.gamma must be between 0 and 1, got nan"),
    "nan rate": (["train", "spread", "--ppo.actor-lr", "nan"], "ppo.actor-lr must be above 0, got nan"),
    "infinite": (["train", "spread", "--ppo.critic-lr", "inf"], "ppo.critic-lr must be above 0, got inf"),
    "infinite steps": (["train", "spread", "--run.total-steps", "inf"], "Error parsing --run.total-steps"),
    "gamma": (["train", "spread", "--ppo.gamma", "1.5"], "ppo.gamma must be between 0 and 1, got 1.5"),
    "critic": (
        ["train", "spread", "--network.critic-input", "env"],
        "network.critic-input env: this environment gives",
    ),
    "both": (["train", "spread", "--preset", "paper", "--config", "x"], "--preset and --config exclude each other"),
    "two places": (
        ["train", "spread", "--run.name", "a", "--run.dir", "b"],
        "mappo: --run.name and --run.dir exclude each other",
    ),
    "name": (["train", "spread", "--run.name", "a/b"], "run.name must be a plain directory name, got 'a/b'"),
    "unnamed resume": (["train", "spread", "--resume"], "to resume, name the run"),
    "resume nowhere": (["resume", "nowhere"], "nowhere is not a run directory: there is no config.json in it"),
    "evaluate nowhere": (["evaluate", "nowhere"], "nowhere is not a run directory"),
    "play nowhere": (["play", "nowhere"], "nowhere is not a run directory"),
    "checkpoint": (["evaluate", "x", "--checkpoint", "bets"], "got 'bets'; did you mean 'best'?"),
    "checkpoint to play": (
        ["play", "x", "--checkpoint", "first"],
        "last, best or a step, got 'first'",
    ),
    "settings missing": (["train", "spread", "--config", "nowhere.json"], "--config nowhere.json: "),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_the_user_can_mend_is_told_with_code_2(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
):
    monkeypatch.chdir(tmp_path)
    args, message = MISTAKES[case]
    code, out, err = told(*args)
    assert code == 2
    assert message in err
    assert out == ""
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "expected an object with env, network, ppo, run"),
        ('{"ppo": {"gama": 1}}', "unknown option ppo.gama"),
        ('{"pppo": {}}', "unknown section 'pppo'"),
        ('{"ppo": {"gamma": "high"}}', "ppo.gamma must be of type float, got 'high'"),
        ('{"ppo": {"gamma": NaN}}', "settings.json: NaN is no number of JSON"),
        ('{"config": 5}', "expected an object"),
        ('{"env": 5}', "settings.json: section 'env' must be an object, got 5"),
        ('{"run": null}', "settings.json: section 'run' must be an object, got None"),
        ("7", "settings.json: expected an object with env, network, ppo, run"),
        ("\xff", "--config"),
    ],
)
def test_settings_that_cannot_be_read_are_told(told: Told, tmp_path: Path, text: str, message: str):
    file = tmp_path / "settings.json"
    file.write_bytes(text.encode("latin-1"))
    code, _, err = told("train", "spread", "--config", file, "--run.dir", tmp_path / "run")
    assert code == 2
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_directory_is_no_settings_file(told: Told, tmp_path: Path):
    code, _, err = told("train", "spread", "--config", tmp_path)
    assert code == 2
    assert f"--config {tmp_path}" in err


def test_training_ends_with_its_files_and_the_next_commands(trained: tuple[Path, str]):
    path, out = trained
    assert "Scoring up to 320 episodes of each policy" in out
    assert "Drawing a replay, greedy policy ..." in out
    *_, files, after = re.split("\n\n|\n(?=Next)", out.replace("\n\n", "\n"))
    for name in ("curve.png", "replay.gif", "metrics.csv", "report.html"):
        assert str(path / name) in files
        assert (path / name).stat().st_size > 100
    assert after.splitlines() == [
        "Next:",
        f"  mappo evaluate {path} --episodes 2000",
        f"  mappo play {path} --seed 7",
        f"  mappo report {path}",
        f"  tensorboard --logdir {path.parent}",
    ]


def test_options_outweigh_the_preset(trained: tuple[Path, str]):
    _, config, _ = rundir.read_run(trained[0])
    assert (config.env.num_envs, config.network.hidden, config.ppo.epochs) == (32, (16,), 1)
    assert config.ppo.actor_lr == mappo.preset("spread").ppo.actor_lr
    assert config.ppo.actor_lr != mappo.Config().ppo.actor_lr


def test_the_printed_commands_can_be_typed(told: Told, trained: tuple[Path, str], quick: None):
    for line in trained[1].splitlines():
        if line.startswith("  mappo "):
            assert told(*line.split()[1:])[0] == 0, line


def test_settings_of_a_run_are_settings_for_another(told: Told, trained: tuple[Path, str], tmp_path: Path, quick: None):
    file, path = trained[0] / "config.json", tmp_path / "second"
    assert told("train", "spread", "--config", file, "--run.dir", path, "--run.seed", "2")[0] == 0
    _, old, _ = rundir.read_run(trained[0])
    _, new, _ = rundir.read_run(path)
    assert (new.env, new.network, new.ppo) == (old.env, old.network, old.ppo)
    assert new.run.seed == 2
    assert trained[0].exists()


def test_an_existing_directory_is_refused(told: Told, trained: tuple[Path, str]):
    code, _, err = told("train", "spread", "--run.dir", trained[0])
    assert code == 2
    assert err == (
        f"mappo: {trained[0]} exists: choose another --run.name or --run.dir, "
        f"or go on with it: mappo resume {trained[0]}"
    )


def test_a_finished_run_resumes_to_its_result(told: Told, run: Path, quick: None):
    before = (run / "metrics.csv").read_bytes()
    for args in (["resume", run], ["train", "spread", "--run.dir", run, "--resume", *SMALL]):
        code, out, _ = told(*args)
        assert code == 0
        assert f"mappo evaluate {run}" in out
    assert (run / "metrics.csv").read_bytes() == before


def test_a_run_of_other_settings_is_not_resumed(told: Told, run: Path):
    code, _, err = told("train", "spread", "--run.dir", run, "--resume", *SMALL, "--ppo.gamma", "0.5")
    assert code == 2
    assert f"ppo.gamma {mappo.preset('spread').ppo.gamma}, not 0.5" in err


def test_evaluate_prints_a_table(told: Told, trained: tuple[Path, str]):
    code, out, err = told("evaluate", trained[0], "--episodes", 20, "--checkpoint", "best", "--sampled")
    assert (code, err) == (0, "")
    assert f"spread (mappo {mappo.__version__}), 20 episodes, best checkpoint" in out
    assert "sampled is ahead by" in out
    for row in ("run (greedy)", "run (sampled)", "random", "planner"):
        assert row in out


def test_evaluate_as_json_is_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str], trained: tuple[Path, str]):
    assert main(["evaluate", str(trained[0]), "--episodes", "20", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    told = json.loads(out)
    fixed = (
        "env",
        "package_version",
        "policy",
        "checkpoint",
        "episodes",
        "return_sum",
        "return_per_agent",
        "baselines",
    )
    assert set(fixed) <= set(told)
    assert set(told["return_sum"]) == {"mean", "iqm", "ci95"}
    assert set(told["baselines"]) == {"random", "planner"}
    assert len(told["return_per_agent"]) == 3
    about = ("spread", f"mappo {mappo.__version__}", "greedy", "last", 20)
    assert tuple(told[k] for k in fixed[:5]) == about


def test_evaluate_on_the_original_package(told: Told, trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    native = json.loads(told("evaluate", trained[0], "--episodes", 4, "--json")[1])
    code, out, err = told("evaluate", trained[0], "--episodes", 4, "--on", "mpe2", "--json")
    assert (code, err) == (0, "")
    original = json.loads(out)
    assert original["env"] == "mpe2/simple_spread_v3"
    assert original["package_version"].startswith("mpe2 1.")
    assert original["return_sum"]["mean"] == pytest.approx(native["return_sum"]["mean"], abs=0.05)
    assert original["baselines"]["planner"]["mean"] == pytest.approx(native["baselines"]["planner"]["mean"], abs=0.05)


def test_a_package_that_does_not_hold_the_original_is_told(
    told: Told, trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.undo()
    code, out, err = told("evaluate", trained[0], "--on", "smac")
    assert (code, out) == (2, "")
    assert err == "mappo: spread cannot be evaluated on 'smac': use mpe2"


@pytest.mark.parametrize("command", ["evaluate", "play"])
@pytest.mark.parametrize("episodes", [0, -1])
def test_no_games_are_refused(told: Told, trained: tuple[Path, str], command: str, episodes: int):
    code, _, err = told(command, trained[0], "--episodes", episodes)
    assert code == 2
    expected = "a replay shows 1 to 100 episodes" if command == "play" else "episodes must be at least 1"
    assert f"{expected}, got {episodes}" in err


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_that_are_none_are_refused(told: Told, trained: tuple[Path, str], seed: int):
    code, _, err = told("play", trained[0], "--seed", seed)
    assert code == 2
    assert f"seed must be at least 0 and below 2^63, got {seed}" in err


@pytest.mark.parametrize("command", ["evaluate", "play", "resume"])
def test_a_file_is_no_run_directory(told: Told, run: Path, command: str):
    code, out, err = told(command, run / "metrics.csv")
    assert (code, out) == (2, "")
    assert "metrics.csv is not a run directory" in err


@pytest.mark.parametrize("command", ["evaluate", "play", "resume"])
def test_damaged_checkpoints_are_told_by_file(told: Told, run: Path, command: str):
    for file in run.glob("checkpoints/*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1])
    code, out, err = told(command, run)
    assert (code, out) == (2, "")
    assert "model.safetensors is damaged: its checksum is not the checksum in state.json" in err


def test_a_damaged_last_checkpoint_costs_only_the_way_from_the_one_before(told: Told, run: Path, quick: None):
    before = (run / "metrics.csv").read_bytes()
    file = checkpoint.load(run).path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert told("resume", run)[0] == 0
    assert (run / "metrics.csv").read_bytes() == before


def test_play_writes_a_replay_of_the_games_asked_for(told: Told, run: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    reset = Spread.reset

    def watched(self: Spread, seed: Any = None) -> Any:
        seen.extend(seed)
        return reset(self, seed)

    monkeypatch.setattr(Spread, "reset", watched)
    monkeypatch.setattr(Spread, "render", lambda *_: np.zeros((4, 4, 3), dtype=np.uint8))
    for replay in run.glob("replay*.gif"):  # of the training, and of the tests before
        replay.unlink()
    assert told("play", run, "--episodes", 2, "--seed", 7) == (0, str(run / "replay.gif"), "")
    assert (run / "replay.gif").read_bytes().startswith(b"GIF")
    assert seen == [7, 7, 7, 8, 8], "to try a picture; and each once for its length, and once for its pictures"
    before = (run / "replay.gif").read_bytes()
    assert told("play", run, "--episodes", 1) == (0, str(run / "replay-2.gif"), "")
    assert (run / "replay.gif").read_bytes() == before
    code, _, err = told("play", run, "--out", run / "replay-2.gif")
    assert code == 2
    assert "exists: choose another name, or delete it" in err


def test_a_missing_original_is_scored_on_the_built_in_one(
    told: Told, run: Path, monkeypatch: pytest.MonkeyPatch, quick: None
):
    monkeypatch.setitem(TWINS, "spread", "mpe2/simple_spread_v3")
    monkeypatch.setitem(sys.modules, "mpe2", None)
    (run / "score.json").unlink(missing_ok=True)  # else the run is complete
    code, out, err = told("resume", run)
    assert code == 0
    assert err.count("not installed") == err.count(f"mpe2 is not installed: {install_command('mpe')}. Without") == 1
    assert "the package itself" not in out
    assert f"spread (mappo {mappo.__version__}), 320 episodes" in out


def test_a_run_without_a_score_names_no_package_that_is_missing(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(TWINS, "spread", "mpe2/simple_spread_v3")
    monkeypatch.setitem(sys.modules, "mpe2", None)
    code, out, _ = told("train", "spread", "--run.dir", tmp_path / "run", *SMALL, "--run.score-episodes", 0)
    assert code == 0
    assert f"mappo evaluate {tmp_path / 'run'} --episodes " in out


@pytest.mark.parametrize(("where", "name"), [(checkpoint, "save_file"), (RunLogger, "write")])
def test_a_full_disk_is_told(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(where, name, full)
    code, _, err = told("train", "spread", "--run.dir", tmp_path / "run", *SMALL)
    assert code == 2
    assert "No space left on device" in err


@pytest.mark.parametrize("length", [10**12, 10**18])
def test_a_rollout_larger_than_any_memory_is_told(told: Told, tmp_path: Path, length: int):
    code, _, err = told("train", "spread", "--run.dir", tmp_path / "run", *SMALL, "--ppo.rollout-length", length)
    assert code == 2
    assert err.startswith("mappo: out of memory (")
    assert err.endswith("fewer environments or episodes, shorter rollouts or a smaller network need less")
    assert "enforce fail" not in err


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory (MemoryError): fewer"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nDetails"), "(CUDA out of memory. Tried 2 GiB.): "),
        (RuntimeError("CUDA error: out of memory\nCompile with ..."), "out of memory (CUDA error: out of memory): "),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    ],
)
def test_out_of_memory_is_told_apart_from_bugs(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str | None
):
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(trainer, "train", fails)
    if message is None:
        with pytest.raises(type(error)):
            told("train", "spread", *SMALL)
    else:
        code, _, err = told("train", "spread", *SMALL)
        assert code == 2
        assert message in err


def test_a_directory_that_cannot_be_made_is_told(told: Told, run: Path):
    code, _, err = told("train", "spread", "--run.dir", run / "metrics.csv" / "x")
    assert code == 2
    assert "cannot make" in err
    assert "Not a directory" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_training_after_the_update_under_way(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, number: signal.Signals
):
    write, path = RunLogger.write, tmp_path / "run"

    def interrupted(self: RunLogger, update: Any) -> None:
        write(self, update)
        if update.index == 3:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(RunLogger, "write", interrupted)
        code, out, err = told("train", "spread", "--run.dir", path, *SMALL)
    assert code == 128 + number
    assert err == ""
    assert out.endswith(f"Stopped at step 2,400 and saved. Go on with: mappo resume {path}")
    assert signal.getsignal(number) == before
    assert checkpoint.load(path).state["updates"] == 3
    assert told("resume", path)[0] == 0
    assert checkpoint.load(path).state["updates"] == 8


def test_a_signal_ends_training_within_an_update(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
):
    step, path, count = MAPPO.gradient_step, tmp_path / "run", iter(range(10**6))

    def interrupted(self: MAPPO, batch: Any) -> Any:
        if next(count) == 5:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MAPPO, "gradient_step", interrupted)
        code, out, _ = told("train", "spread", "--run.dir", path, *SMALL, "--ppo.epochs", "2", "--ppo.minibatches", "2")
    assert code == 143
    assert out.endswith(f"Stopped at step 800 and saved. Go on with: mappo resume {path}")
    assert next(count) == 6, "at once"


def lines(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_control_c_in_a_real_process_saves_and_resumes(told: Told, tmp_path: Path, quick: None):
    path, numbers, updates = tmp_path / "run", tmp_path / "run" / "metrics.csv", 150
    args = [*SMALL, "--run.total-steps", str(800 * updates), "--run.eval-interval", "1000000"]
    code = "from mappo.cli.main import entry; entry()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "train", "spread", "--run.dir", str(path), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            patience = time.monotonic() + 600
            while lines(numbers) < 2 and process.poll() is None and time.monotonic() < patience:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "\nmappo: stopping, and saving the last finished update; press Ctrl-C again to leave at once\n"
    assert f"saved.  Go on with:  mappo resume {path}" in out
    done = checkpoint.load(path).state["updates"]
    assert 0 < done < updates
    assert lines(numbers) == 1 + done
    assert told("resume", path)[0] == 0
    assert mappo.Run(path, "spread", rundir.read_run(path)[1], 0).metrics["update"].tolist() == [*range(1, updates + 1)]
