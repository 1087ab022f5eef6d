"""A whole sweep in this process: its trials are runs, and a sweep that was cut off ends as if it never was."""

import csv
import errno
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, strategies as st

from mappo.cli import main as cli
from mappo.cli.parsing import parse
from mappo.config import Config
from mappo.errors import UserError
from mappo.evaluation.options import EvaluateOptions
from mappo.evaluation.score_run import evaluate_run
from mappo.experiments.sweep import run as loop, trial as trial_module
from mappo.experiments.sweep.options import SweepOptions
from mappo.experiments.sweep.plan import SweepPlan
from mappo.experiments.sweep.results import SweepResults, TrialResult, pareto_front
from mappo.experiments.sweep.run import make_plan
from mappo.experiments.sweep.study import Study
from mappo.runs.directory import read_run
from mappo.runs.logger import Update
from mappo.system.shutdown import Interrupts
from mappo.training import session
from mappo.training.train import train
from training_runs import StopAtCheck

SPACE = {"ppo.actor_lr, ppo.critic_lr": {"low": 1e-4, "high": 1e-2, "log": True}, "ppo.epochs": [1, 2]}
TINY = [
    *("--env.num-envs", "8", "--network.hidden", "8", "--ppo.rollout-length", "5", "--run.total-steps", "240"),
    *("--run.eval-interval", "80", "--run.eval-episodes", "8", "--run.score-episodes", "8"),
]


def words(tmp_path: Path, *more: str, space: Any = SPACE) -> list[str]:
    file = tmp_path / "space.json"
    file.write_text(json.dumps(space))
    return ["sweep", "probe/signal", str(file), *TINY, "--run.dir", str(tmp_path / "sweep"), *more]


def plan_of(tmp_path: Path, *more: str, space: Any = SPACE) -> SweepPlan:
    command = parse(words(tmp_path, *more, space=space))
    return make_plan(command.env, command.space, command.config, command)


def sweep(plan: SweepPlan, interrupts: Interrupts | None = None) -> SweepResults:
    return loop.run_sweep(plan, interrupts or Interrupts(), lambda _: None)


def table(tmp_path: Path) -> list[dict[str, str]]:
    """Rows of trials.csv, without clock times and what depends on them."""
    with open(tmp_path / "sweep" / "trials.csv", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if k not in ("cpu_s", "pareto")} for row in csv.DictReader(file)]


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learning curve takes as long to draw as a tiny trial to run."""
    monkeypatch.setattr(session, "draw_curve", lambda *_: None)
    monkeypatch.setattr(loop, "plot_trials", lambda *_: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete sweep of five trials."""
    tmp_path = tmp_path_factory.mktemp("done")
    assert sweep(plan_of(tmp_path, "--trials", "5")).is_finished
    return tmp_path


def test_each_trial_is_the_run_of_its_settings(done: Path, tmp_path: Path):
    rows = table(done)
    assert [row["trial"] for row in rows] == list("01234")
    assert [row["state"] for row in rows] == ["complete"] * 5
    assert len({row["ppo.actor_lr, ppo.critic_lr"] for row in rows}) == 5
    path = done / "sweep" / "trial-0003"
    _, config, _ = read_run(path)
    rate = float(rows[3]["ppo.actor_lr, ppo.critic_lr"])
    assert (config.ppo.actor_lr, config.ppo.critic_lr, config.ppo.epochs) == (rate, rate, int(rows[3]["ppo.epochs"]))
    train("probe/signal", replace(config, run=replace(config.run, dir=str(tmp_path / "alone"))))
    assert (path / "metrics.csv").read_bytes() == (tmp_path / "alone" / "metrics.csv").read_bytes()


def test_the_objective_is_the_last_evaluation_and_the_score_is_of_other_episodes(done: Path):
    firsts: list[float] = []
    for row in (table(done)[0], table(done)[2], table(done)[4]):
        path = done / "sweep" / f"trial-{int(row['trial']):04d}"
        with open(path / "metrics.csv", encoding="utf-8") as file:
            *_, last = rows = list(csv.DictReader(file))
        assert last["step"] == "240"
        assert float(row["eval_return"]) == float(last["eval_return"])
        firsts.append(float(rows[1]["eval_return"]) - float(last["eval_return"]))
        score = evaluate_run(path, EvaluateOptions(episodes=8))["return_sum"]
        assert float(row["score"]) == score["mean"]
        assert [float(row["score_low"]), float(row["score_high"])] == score["ci95"]
    assert any(firsts)  # the first evaluations were others


def test_the_best_settings_are_read_back_by_train(done: Path):
    best = json.loads((done / "sweep" / "best.json").read_text())
    rows = table(done)
    assert best["eval_return"] == max(float(row["eval_return"]) for row in rows)
    config = parse(["train", "probe/signal", "--config", str(done / "sweep" / "best.json")]).config
    trial_config = read_run(done / "sweep" / f"trial-{best['trial']:04d}")[1]
    assert config == replace(trial_config, run=replace(trial_config.run, dir=None))
    assert (done / "sweep" / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_the_first_trial_of_a_search_is_the_base(done: Path):
    base = plan_of(done, "--trials", "5").base
    assert float(table(done)[0]["ppo.actor_lr, ppo.critic_lr"]) == base.ppo.actor_lr


@pytest.mark.parametrize("calls", [1, 3, 9])
def test_a_stopped_sweep_goes_on_and_ends_with_the_same_trials(done: Path, tmp_path: Path, calls: int):
    plan = plan_of(tmp_path, "--trials", "2")
    stopped = sweep(plan, StopAtCheck(calls))
    assert not stopped.is_finished
    assert stopped.counts["running"] == (calls > 1)
    assert sweep(plan).is_finished
    assert table(tmp_path) == table(done)[:2]


@pytest.mark.parametrize("where", ["at the start", "after a checkpoint", "evaluate_run", "tell"])
def test_the_trial_of_a_lost_process_goes_on(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    plan = plan_of(tmp_path, "--trials", "2")
    last = {"at the start": 40, "after a checkpoint": 120}.get(where)

    class Lost(BaseException):
        pass

    def lose(*args: Any, **kwargs: Any) -> Any:
        if last is None:
            raise Lost
        return train(*args, **kwargs | {"callback": lose_at})

    def lose_at(update: Update) -> None:
        if update.step == last:
            raise Lost

    with monkeypatch.context() as patch:
        patch.setattr(*((Study, "tell") if where == "tell" else (trial_module, "train" if last else where)), lose)
        with pytest.raises(Lost):
            sweep(plan)
    checkpoints = tmp_path / "sweep" / "trial-0000" / "checkpoints"
    assert (checkpoints.exists() and bool(list(checkpoints.iterdir()))) == (where != "at the start")
    assert sweep(plan).is_finished
    assert table(tmp_path) == table(done)[:2]
    reported = optuna.load_study(study_name="probe-signal-space", storage=_journal(tmp_path)).trials
    assert [list(trial.intermediate_values) for trial in reported] == [[1, 2, 3]] * 2


def _journal(tmp_path: Path) -> Any:
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "sweep" / "journal.log"))
    return optuna.storages.JournalStorage(backend)


def of_first_trial(error: Exception, times: int = 1_000) -> Any:
    """`train`, with an error after the first checkpoint of the first trial."""
    left = [times]

    def fail(update: Update) -> None:
        if update.step == 120 and left[0]:
            left[0] -= 1
            raise error

    def train_or_fail(env: str, config: Config, **kwargs: Any) -> Any:
        own = kwargs["callback"]
        is_first = str(config.run.dir).endswith("trial-0000")
        return train(env, config, **kwargs | {"callback": lambda update: (fail if is_first else own)(update)})

    return train_or_fail


def test_a_trial_that_ends_in_errors_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial_module, "train", of_first_trial(ZeroDivisionError("by zero")))
    notes: list[str] = []
    results = loop.run_sweep(plan_of(tmp_path, "--trials", "2"), Interrupts(), notes.append)
    assert results.is_finished
    assert [row["state"] for row in table(tmp_path)] == ["failed", "complete"]
    assert table(tmp_path)[0]["error"] == "the trial was lost 3 times at step 80: ZeroDivisionError: by zero"
    assert sum("trial 0 broke off" in note and "in fail" in note for note in notes) == 4  # at step 0, then thrice at 80


def test_a_trial_that_ends_every_process_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = plan_of(tmp_path, "--trials", "2")

    class Killed(BaseException):
        pass

    def crash(env: str, config: Config, **kwargs: Any) -> Any:
        if str(config.run.dir).endswith("trial-0000"):
            raise Killed
        return train(env, config, **kwargs)

    monkeypatch.setattr(trial_module, "train", crash)
    for _ in range(3):
        with pytest.raises(Killed):
            sweep(plan)
    assert sweep(plan).is_finished
    assert [row["state"] for row in table(tmp_path)] == ["failed", "complete"]
    expected = "the trial was lost 3 times at step 0: each process ended without a message"
    assert table(tmp_path)[0]["error"] == expected


def test_an_error_of_the_disk_loses_no_trial(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "DISK_PAUSE", 0.0, raising=False)
    plan = plan_of(tmp_path, "--trials", "2")
    stale = OSError(errno.ESTALE, "Stale file handle")
    monkeypatch.setattr(trial_module, "train", of_first_trial(stale, 10))
    with pytest.raises(OSError, match="Stale file handle"):  # six more attempts
        sweep(plan)
    notes: list[str] = []
    assert loop.run_sweep(plan, Interrupts(), notes.append).is_finished
    assert sum("Stale file handle: tried again in 0 s" in note for note in notes) == 3
    assert table(tmp_path) == table(done)[:2]


def test_processes_of_a_study_never_get_the_same_trial(tmp_path: Path):
    plan = plan_of(tmp_path, "--trials", "3")
    studies = [Study(plan, lambda: None) for _ in range(4)]
    with (
        studies[0].next_trial() as first,
        studies[1].next_trial() as second,
        studies[2].next_trial() as third,
        studies[3].next_trial() as none,
    ):
        assert first and second and third  # noqa: PT018
        assert [found[0].number for found in (first, second, third)] == [0, 1, 2]
        assert len({found[0].params["ppo.actor_lr, ppo.critic_lr"] for found in (first, second, third)}) == 3
        assert none is None
    with studies[3].next_trial() as taken:
        assert taken
        assert taken[0].number == 0
        assert taken[0].params == first[0].params


def test_a_pruned_trial_is_a_run_that_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", lambda _, study, trial: trial.number == 1)
    results = sweep(plan_of(tmp_path, "--trials", "2"))
    assert [trial.state for trial in results.trials] == ["complete", "pruned"]
    assert results.trials[1].score is None
    path = tmp_path / "sweep" / "trial-0001"
    with open(path / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["40", "80"]
    assert results.trials[1].eval_return == float(rows[-1]["eval_return"])
    assert train("probe/signal", read_run(path)[1], resume=True).finished


def test_a_trial_whose_process_was_lost_when_it_was_pruned_is_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(optuna.pruners.MedianPruner, "prune", lambda *_: True)
    plan = plan_of(tmp_path, "--trials", "1")
    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sweep(plan)
    assert [trial.eval_return is not None for trial in sweep(plan).trials] == [True]
    with open(tmp_path / "sweep" / "trial-0000" / "metrics.csv", encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["40", "80"]


def test_combinations_that_do_not_fit_fail_alone(tmp_path: Path):
    results = sweep(plan_of(tmp_path, "--grid", space={"ppo.minibatches": [7, 1, 6, 9, 11]}))
    assert [trial.state for trial in results.trials] == ["failed", "complete", "failed", "failed", "failed"]
    assert results.trials[0].error.startswith("ppo.minibatches 7 does not divide")
    assert json.loads((tmp_path / "sweep" / "best.json").read_text())["trial"] == 1


def test_trials_that_fail_one_after_the_other_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise UserError("the game is broken")

    monkeypatch.setattr(trial_module, "train", fail)
    with pytest.raises(UserError, match="3 trials failed one after the other, the last: the game is broken"):
        sweep(plan_of(tmp_path, "--trials", "9"))
    assert [row["state"] for row in table(tmp_path)] == ["failed"] * 3


def test_a_grid_has_each_combination_once_and_the_mean_of_its_seeds(tmp_path: Path):
    space = {"ppo.gamma": [0.5], "ppo.epochs": {"low": 1, "high": 2}}
    results = sweep(plan_of(tmp_path, "--grid", "--run.seeds", "2", space=space))
    assert [(trial.values["ppo.gamma"], trial.values["ppo.epochs"]) for trial in results.trials] == [
        *((0.5, 1), (0.5, 2))
    ]
    assert {trial.state for trial in results.trials} == {"complete"}
    lasts: list[float] = []
    for seed in (1, 2):
        with open(tmp_path / "sweep" / "trial-0001" / f"seed-{seed}" / "metrics.csv", encoding="utf-8") as file:
            lasts.append(float(list(csv.DictReader(file))[-1]["eval_return"]))
    assert results.trials[1].eval_return == pytest.approx(sum(lasts) / 2)


def test_a_line_that_a_full_disk_cut_short_is_mended(done: Path, tmp_path: Path):
    plan = plan_of(tmp_path, "--trials", "2")
    sweep(plan, StopAtCheck(5))
    with open(tmp_path / "sweep" / "journal.log", "a", encoding="utf-8") as journal:
        journal.write('{"op_code":6,"wor')
    assert sweep(plan).is_finished
    assert table(tmp_path) == table(done)[:2]


def test_another_sweep_is_refused_in_the_same_folder_or_storage(done: Path, tmp_path: Path):
    def refusal(*more: str, space: Any = SPACE) -> str:
        with pytest.raises(UserError) as error:
            sweep(plan_of(tmp_path, *more, space=space))
        return str(error.value)

    there = ("--run.dir", str(done / "sweep"), "--trials", "5")
    assert "ppo.gamma 0.99, not 0.9" in refusal(*there, "--ppo.gamma", "0.9")
    assert "begun with other settings: another space" in refusal(*there, space={"ppo.epochs": [1, 2]})
    assert "grid False, not True" in refusal(*there[:2], "--grid", space={"ppo.epochs": [1, 2]})
    journal = str(done / "sweep" / "journal.log")
    assert "of another folder" in refusal("--storage", journal)
    assert "holds trials that the storage lacks" in refusal(*there, "--storage", str(tmp_path / "new.log"))
    assert "is no sweep (best.json is in it)" in refusal("--run.dir", str(_foreign(tmp_path)))
    (tmp_path / "notes.txt").write_text("notes")
    assert "is no journal of Optuna" in refusal("--storage", str(tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "notes"
    assert "the storage cannot be used" in refusal("--storage", "sqlite:////missing/folder/x.db")


def _foreign(tmp_path: Path) -> Path:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "best.json").write_text("{}")
    return tmp_path / "foreign"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # SQLAlchemy leaves the database to the garbage collector
def test_a_database_serves_as_storage(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/sweep.db"
    assert sweep(plan_of(tmp_path, "--trials", "1", "--storage", url)).is_finished
    assert [trial.state.name for trial in optuna.load_study(study_name="probe-signal-space", storage=url).trials] == [
        "COMPLETE"
    ]


RESULTS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3), st.booleans()), max_size=8)


@given(RESULTS)
def test_the_front_holds_the_trials_that_no_other_beats(rows: list[tuple[int, int, bool]]):
    trials = [
        TrialResult(k, "complete" if done else "pruned", {}, float(quality), None, None, float(cost), "")
        for k, (quality, cost, done) in enumerate(rows)
    ]
    points = {(quality, cost) for quality, cost, done in rows if done}
    unbeaten = {(q, c) for q, c in points if not any(q2 >= q and c2 <= c and (q2, c2) != (q, c) for q2, c2 in points)}
    front = pareto_front(trials)
    assert {(trials[k].eval_return, trials[k].cpu_s) for k in front} == unbeaten
    assert len(front) == len(unbeaten)


def test_exit_codes_and_messages(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    again = words(tmp_path, "--run.dir", str(done / "sweep"), "--trials", "5")
    assert cli.main(again) == 0
    shown = capsys.readouterr()
    assert "5 trials: 5 complete" in shown.out
    assert f"train probe/signal --config {done / 'sweep' / 'best.json'} --run.seed 2 --run.seeds 5" in shown.out
    assert cli.main(words(tmp_path, "--trials", "2", "--run.time-limit", "1e-9")) == 3
    assert "Stopped by run.time-limit; the same command goes on." in capsys.readouterr().out
    assert cli.main(words(tmp_path, "--run.dir", str(tmp_path / "b"), "--grid", space={"ppo.minibatches": [7]})) == 2
    assert "No trial is complete. Trial 0 failed: ppo.minibatches 7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "spraed", "space.yaml"], "unknown environment 'spraed'; did you mean 'spread'"),
        (["sweep", "spread"], "the file of the space comes second, as in: mappo sweep spread space.yaml"),
        (["sweep", "spread", "--trials", "3"], "the file of the space comes second"),
        (["sweep", "spread", "missing.yaml"], "missing.yaml: No such file or directory"),
        (["sweep", "spread", "SPACE", "--run.name", "x"], "run.name is for a single run: name a sweep by --study"),
        (["sweep", "spread", "SPACE", "--run.processes", "2"], "start the command of a sweep once for each process"),
        (["sweep", "spread", "SPACE", "--study", "a/b"], "--study must be a plain name, got 'a/b'"),
        (["sweep", "spread", "SPACE", "--grid", "--trials", "3"], "--grid and --trials exclude each other"),
        (["sweep", "spread", "SPACE", "--grid"], "--grid needs a list of choices, or a step, for ppo.actor_lr"),
        (["sweep", "lbf/none", "SPACE"], "none"),
    ],
)
def test_bad_input_gets_a_message_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    assert cli.main(["space.json" if word == "SPACE" else word for word in arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["space.json"]


def test_bad_options_name_themselves():
    with pytest.raises(UserError, match="--trials must be at least 1, got 0"):
        SweepOptions(trials=0)


@pytest.mark.parametrize("size", ["2", "two"])
def test_processes_of_torchrun_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str):
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(UserError, match="start them without torchrun"):
        plan_of(tmp_path)


def test_without_optuna_a_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = plan_of(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"Optuna is not installed.*pip install '?optuna"):
        sweep(plan)
    assert not (tmp_path / "sweep").exists()
