"""The benchmark scripts: that they do the work they say, reckon right and write what they found."""

import csv
import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import mappo
from mappo.algorithms import mappo as learner
from mappo.backend import matmul as products
from mappo.experiments import workload
from mappo.experiments.workload import Cost, Workload, reference
from mappo.networks import gru
from paths import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script, as `python benchmarks/NAME.py` finds its neighbours."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)

    def loaded(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield loaded
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_added_to_a_table_of_the_same_columns(load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    append = load("record").append
    path = tmp_path / "new" / "table.csv"
    append(path, [{"a": 1, "b": "x, y"}])
    append(path, [{"a": 2, "b": None}, {"a": 3, "b": 4.5}])
    assert path.read_text() == 'a,b\n1,"x, y"\n2,\n3,4.5\n'
    with pytest.raises(SystemExit, match="2"):
        append(path, [{"b": 1, "a": 2}])
    assert "has other columns than these rows: move it away, or give another --out" in capsys.readouterr().err
    assert len(table(path)) == 3


def test_each_row_is_in_the_table_and_printed_before_the_next_is_measured(
    load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "table.csv"

    def rows() -> Iterator[dict[str, object]]:
        yield {"a": 1, "b": 0.5}
        assert table(path) == [{"a": "1", "b": "0.5"}]
        assert capsys.readouterr().out == "    1 half 0.5\n"
        yield {"a": 2, "b": 0.25}

    load("record").append_each(path, rows(), "{a:>5} half {b}")
    assert [row["a"] for row in table(path)] == ["1", "2"]


@pytest.mark.parametrize("name", ["twins", "reading"])
def test_a_comparison_with_a_package_has_the_columns_of_its_table(load: Any, name: str):
    found = load("record").against_package("numpy", [1.0, 2.0, 3.0], digits=2)
    half = 4.302653 / 3**0.5  # of the 95 % interval of three values, by Student's t
    assert (found["ratio"], found["low"], found["high"], found["blocks"]) == (2, round(2 - half, 2), 4.48, 3)
    assert found["versions"] == f"numpy {np.__version__}, torch {torch.__version__}"
    assert list(table(FOLDER / "results" / f"{name}.csv")[0])[-len(found) :] == list(found)


def test_numbers_are_recorded_with_where_and_how_they_arose(load: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [str(FOLDER / "speed.py"), "--out", "a b"])
    found = load("record").circumstances()
    assert found["command"] == "python benchmarks/speed.py --out 'a b'"
    assert {"date", "commit", "dirty", "cpu", "cores", "load", "torch", "python"} <= set(found)
    with (FOLDER / "results" / "speed.csv").open() as file:
        assert file.readline().startswith(",".join(found))  # older rows stay comparable


def test_both_learners_of_the_speed_benchmark_have_the_same_settings(load: Any):
    speed = load("speed")
    for recipe in speed.RECIPES:
        config = reference(recipe, speed.ENVS)
        ppo, full = config.ppo, recipe == "full"
        assert (ppo.rollout_length, ppo.epochs, ppo.minibatches) == (speed.STEPS, speed.EPOCHS, speed.MINIBATCHES)
        assert config.network.hidden == (speed.HIDDEN, speed.HIDDEN)
        assert (ppo.gamma, ppo.gae_lambda, ppo.clip_ratio) == (speed.GAMMA, speed.LAMBDA, speed.CLIP)
        assert (ppo.entropy_weight, ppo.max_grad_norm, ppo.adam_eps) == (speed.ENTROPY, speed.GRAD_NORM, speed.ADAM_EPS)
        assert ppo.actor_lr == ppo.critic_lr == speed.LR
        assert (ppo.value_clip, ppo.huber_delta) == ((speed.VALUE_CLIP, speed.HUBER) if full else (None, None))
        assert (ppo.value_norm, config.network.layer_norm) == (full, full)


def test_ratios_of_the_speed_benchmark_are_taken_within_each_round(load: Any):
    slow = [Cost(2, 3), Cost(20, 30), Cost(6, 9)]
    quick = [Cost(1, 3), Cost(4, 4), Cost(2, 5)]
    base, own = load("speed").summary({"straightforward": slow, "mappo": quick})
    assert (base["ratio"], base["cpu_s_per_1k"]) == (1, 6)
    assert (own["ratio"], own["ratio_min"], own["ratio_max"]) == (3, 2, 5)
    assert (own["cpu_s_per_1k"], own["cpu_s_min"], own["cpu_s_max"], own["wall_s_per_1k"]) == (2, 1, 4, 4)


@pytest.mark.parametrize("system", ["straightforward", "mappo", "bare products"])
def test_each_system_of_the_speed_benchmark_plays_the_same_game(
    load: Any, system: str, monkeypatch: pytest.MonkeyPatch
):
    speed = load("speed")
    monkeypatch.setattr(speed, "EPOCHS", 1)
    result = speed.SYSTEMS[system]("plain", 1)()
    assert result == 0 if system == "bare products" else -100 < result < -60  # random play, before it learns


def test_a_growing_table_is_read_in_whole_lines_each_once(load: Any, tmp_path: Path):
    module, path = load("time_to_score"), tmp_path / "metrics.csv"
    watch = module.Watch(path)
    watch.look(1.0, 0.5)  # nothing is there yet
    for text, wall in (("seed,step,eval_re", 2.0), ("turn\n1,100,-40.5\n1,20", 3.0), ("0,\n", 4.0), ("", 5.0)):
        with path.open("a") as file:
            file.write(text)
        watch.look(wall, None)
    assert watch.seen == [module.Seen(100, -40.5, 3.0, None), module.Seen(200, None, 4.0, None)]


def test_a_threshold_is_passed_by_the_first_evaluation_that_reaches_it(load: Any):
    module = load("time_to_score")
    seen = [
        module.Seen(10, None, 1.0, 0.5),
        module.Seen(20, -45.0, 2.0, 1.5),
        module.Seen(30, -50.0, 3.0, None),
        module.Seen(40, -30.0, 4.0, 3.5),
        module.Seen(50, None, 5.0, 4.5),
    ]
    used = load("record").Usage(0, 9.0, 8.0, 100.0)
    rows = module.points(seen, used, [-45, -44.9, -20])
    assert [(r["point"], r["step"], r["wall_s"], r["cpu_s"]) for r in rows] == [
        ("-45", 20, 2.0, 1.5),
        ("-44.9", 40, 4.0, 3.5),
        ("-20", "", "", ""),
        ("trained", 50, 5.0, 4.5),
        ("exit", 50, 9.0, 8.0),
    ]
    assert rows[1]["eval_return"] == -30


def test_a_run_is_watched_while_it_goes_on(load: Any, monkeypatch: Any, tmp_path: Path):
    module, path, noticed = load("time_to_score"), tmp_path / "metrics.csv", tmp_path / "noticed"
    look = module.Watch.look

    def looked(self: Any, *when: Any) -> None:
        look(self, *when)
        if self.seen:
            noticed.touch()

    monkeypatch.setattr(module.Watch, "look", looked)
    code = (
        "import sys, time, pathlib\n"
        "path, noticed = map(pathlib.Path, sys.argv[1:])\n"
        "path.write_text('step,eval_return\\n10,-50\\n')\n"
        "while not noticed.exists(): time.sleep(0.01)\n"  # else this never ends
        "path.open('a').write('20,-40\\n')\n"
        "print('done'); sys.exit(3)\n"
    )
    seen, used = module.follow([sys.executable, "-c", code, str(path), str(noticed)], path, tmp_path / "log")
    assert [(x.step, x.value) for x in seen] == [(10, -50.0), (20, -40.0)]
    assert seen[0].wall < seen[1].wall <= used.wall
    assert used.code == 3
    assert (tmp_path / "log").read_text() == "done\n"
    assert used.peak_mib > 1


def test_the_last_lines_that_say_something_are_told(load: Any, tmp_path: Path):
    tail, log = load("record").tail, tmp_path / "log"
    log.write_text("working\n╭ box ╮\n│ no such option │\n│ see --help │\n╰─╯\n\n", encoding="utf-8")
    assert tail(log) == "see --help"
    assert tail(log, 2) == "no such option\nsee --help"
    log.write_text("")
    assert tail(log) == "it printed nothing"


def test_numbers_of_environments_are_powers_of_4(load: Any):
    numbers = load("scaling").numbers
    assert numbers(65_536) == [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536]
    assert (numbers(65_535)[-1], numbers(1)) == (16384, [1])


def test_a_process_trains_for_a_time_and_tells_what_it_took(load: Any, monkeypatch: Any, tmp_path: Path):
    module, threads = load("scaling"), torch.get_num_threads()
    monkeypatch.setattr(module, "TOGETHER", 2)
    updates = list[int]()
    original = Workload.update

    def update(self: Workload) -> dict[str, float]:
        updates.append(self.config.ppo.minibatches)
        return original(self)

    monkeypatch.setattr(Workload, "update", update)
    module.work("plain", 8, 0.0, tmp_path / "out")
    torch.set_num_threads(threads)
    told = json.loads((tmp_path / "out").read_text())
    assert updates == [4, 4]  # the first is burn-in
    assert (told["updates"], told["steps"], told["minibatches"]) == (1, 200, 4)
    assert told["wall_s"] > 0


def test_a_process_that_fails_leaves_a_row_that_says_why(load: Any, monkeypatch: Any, tmp_path: Path):
    module, usage = load("scaling"), load("record").Usage

    def run(command: list[str], log: Path, code: int = 0) -> Any:
        assert command[2:6] == ["--work", "full", "16", "2.0"]
        log.write_text("RuntimeError: out of luck\n")
        Path(command[6]).write_text('{"cpu_s": 3, "wall_s": 4, "minibatches": 1, "updates": 5, "steps": 2000}')
        return usage(code, 9.0, 9.0, 321.4)

    def row(code: int) -> dict[str, Any]:
        monkeypatch.setattr(module, "run", partial(run, code=code))
        return module.measured("full", 16, 2.0, tmp_path)

    good = row(0)
    assert (good["steps_per_s"], good["cpu_s_per_1k"], good["wall_s_per_1k"]) == (500, 1.5, 2)
    assert (good["peak_mib"], good["updates"], good["error"]) == (321, 5, "")
    assert row(1)["error"] == "RuntimeError: out of luck"
    assert row(-9)["error"] == "killed, as for too much memory"
    assert list(row(-9)) == list(good)  # one table


def test_what_could_be_measured_is_drawn(load: Any, tmp_path: Path):
    module = load("scaling")
    rows = [
        {"envs": 1, "steps_per_s": 900.0, "cpu_s_per_1k": 1.1, "peak_mib": 300, "error": ""},
        {"envs": 4, "steps_per_s": 3000.0, "cpu_s_per_1k": 0.3, "peak_mib": 300, "error": ""},
        {"envs": 16, "steps_per_s": "", "cpu_s_per_1k": "", "peak_mib": "", "error": "killed"},
    ]
    module.plot(rows, "title", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert module.nice([900, 3000]) == [500, 1000, 2000, 5000]
    assert module.nice([300, 300]) == [200, 500]


@pytest.fixture
def gpu(load: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script for a GPU, on the CPU, and in as little time as may be."""
    module, threads = load("gpu"), torch.get_num_threads()
    monkeypatch.setattr(workload, "TURN", 0)
    monkeypatch.setattr(workload, "reference", partial(small, workload.reference))
    monkeypatch.setattr(module, "reference", workload.reference)
    yield module
    torch.set_num_threads(threads)


def small(reference: Any, *args: Any) -> Any:
    config = reference(*args)
    return replace(config, ppo=replace(config.ppo, epochs=1, rollout_length=5))


def test_each_section_of_the_gpu_benchmark_leaves_its_rows(gpu: ModuleType, monkeypatch: Any, tmp_path: Path):
    for name in ("launches", "learning"):
        monkeypatch.setattr(gpu, name, lambda *_, _as=name: iter([gpu.Found(_as, 7.0, "")]))
    out = tmp_path / "gpu.csv"
    gpu.main(["--device", "cpu", "--envs", "2", "--rounds", "1", "--out", str(out)])
    found: dict[tuple[str, str], list[str]] = {}
    for row in table(out):
        assert row["error"] == ""
        assert float(row["value"]) > 0
        found.setdefault((row["section"], row["network"]), []).append(row["name"])
    alone = ["environment alone", "policy alone", "update alone", "end to end"]
    assert found == {
        ("bandwidth", ""): ["copy"],
        ("parts", "feed-forward"): alone,
        ("parts", "gru"): alone,
        ("products", "feed-forward"): ["bare matrix products"],
        ("launches", "feed-forward"): ["launches"],
        ("launches", "gru"): ["launches"],
        ("seeds", "feed-forward"): ["1 seeds", "10 seeds", "10 seeds against one"],
        ("learning", "feed-forward"): ["learning"],
    }


def test_a_memory_asks_more_of_the_device(gpu: ModuleType):
    counts = {x: list(gpu.launches(x, 2, torch.device("cpu"))) for x in ("feed-forward", "gru")}
    assert [found.name for found in counts["gru"]] == ["operators in an update"]
    assert counts["gru"][0].value > counts["feed-forward"][0].value > 500


def test_a_section_that_fails_leaves_a_row_and_the_others_their_numbers(
    gpu: ModuleType, monkeypatch: Any, tmp_path: Path
):
    def broken(*_: Any) -> Iterator[Any]:
        yield gpu.Found("half", 1.0, "s")
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(gpu, "parts", broken)
    for name in ("bare", "launches", "many_seeds", "learning"):
        monkeypatch.setattr(gpu, name, lambda *_: iter([gpu.Found("x", 2.0, "")]))
    out = tmp_path / "gpu.csv"
    gpu.main(["--device", "cpu", "--envs", "2", "--out", str(out)])
    rows = table(out)
    assert [r["error"] for r in rows if r["section"] == "parts"] == ["", "RuntimeError: CUDA out of memory."] * 2
    assert [r["name"] for r in rows if r["section"] in ("bandwidth", "launches", "learning")] == ["copy", "x", "x", "x"]


def test_no_section_begins_once_the_time_is_up(gpu: ModuleType, tmp_path: Path):
    out = tmp_path / "gpu.csv"
    gpu.main(["--device", "cpu", "--envs", "2", "8", "--minutes", "0", "--out", str(out)])
    assert [r["error"] for r in table(out)] == ["left out: no time was left"] * 13


@pytest.mark.parametrize(("evaluations", "passes"), [([-30.0, None, -70.0], False), ([-70.0, -20.0, -19.0], True)])
def test_training_stops_where_the_planner_is_passed(gpu: ModuleType, monkeypatch: Any, evaluations: Any, passes: bool):
    seen = list[Any]()

    def train(env: str, config: Any, callback: Any) -> Any:
        for index, value in enumerate(evaluations):
            metrics = {"eval_return": float("nan") if value is None else value}
            seen.append((config.env.num_envs, config.run.total_steps, config.run.device))
            try:
                callback(SimpleNamespace(metrics=metrics, step=100 * (index + 1)))
            except mappo.StopTraining:
                break
        return SimpleNamespace(step=100 * len(seen))

    monkeypatch.setattr(mappo, "train", train)
    monkeypatch.setattr(gpu, "play_episodes", lambda *_: SimpleNamespace(team_returns=np.array([-25.0, -24.0])))
    found = list[Any]()
    section = partial(gpu.learning, 16, 3000, float("inf"), torch.device("cpu"))
    found = list(gpu.rows_of(section, float("inf")))
    told = [(r["name"], r["value"]) for r in found if r["unit"] != "s"]
    assert seen[0] == (16, 3000, "cpu")
    if passes:
        assert told == [
            *(("central planner", "-24.5"), ("best evaluation", "-20"), ("trained", "200"), ("past the planner", "200"))
        ]
        assert [r["unit"] for r in found if r["name"] == "past the planner"] == ["s", "steps"]
    else:
        assert told[:3] == [("central planner", "-24.5"), ("best evaluation", "-30"), ("trained", "300")]
        assert "the planner was not passed" in found[-1]["error"]


def test_without_a_gpu_there_is_one_message(load: Any, monkeypatch: Any, capsys: Any):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="2"):
        load("gpu").main()
    expected = "gpu.py: torch finds no CUDA device here; --device cpu tries the script out, slowly\n"
    assert capsys.readouterr().err == expected


BAD = {
    "time_to_score": (["--seeds", "0"], "--seeds must be at least 1"),
    "gpu": (["--rounds", "0"], "--envs, --rounds, --learn-envs and --steps must be at least 1"),
    "scaling": (["--most", "0"], "--most must be at least 1"),
}


@pytest.mark.parametrize("script", BAD)
def test_a_script_tells_a_mistake_in_one_message(load: Any, script: str, monkeypatch: Any, capsys: Any):
    module, (args, message) = load(script), BAD[script]
    monkeypatch.setattr(sys, "argv", [f"{script}.py", *args])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert message in capsys.readouterr().err


def test_variants_differ_in_one_thing_and_leave_all_as_it_was(load: Any, tmp_path: Path, monkeypatch: Any):
    module = load("variants")
    before = products.best_library, learner.PIECE_ROWS, torch.get_num_threads(), gru.has_closed_form
    seen: list[tuple[Any, ...]] = []

    class Spied:
        def __init__(self, config: Any) -> None:
            self.config = config

        def update(self) -> None:
            now = products.best_library(), learner.PIECE_ROWS, torch.get_num_threads(), gru.has_closed_form
            seen.append((self.config.network.precision, *now))

    monkeypatch.setattr(module, "Workload", Spied)
    changed = {"products": 1, "bf16": 0, "pieces": 2, "two threads": 3, "closed form": 4}
    for kind, variants in module.VARIANTS.items():
        for variant in variants:
            seen.clear()
            module.set_products(False)
            module.measured(variant, rounds=2, repeats=1)
            products.best_library = before[0]
            without, changed_to = seen[0], seen[-1]
            assert [i for i, (a, b) in enumerate(zip(without, changed_to, strict=True)) if a != b] == [changed[kind]]
    assert before == (products.best_library, learner.PIECE_ROWS, torch.get_num_threads(), gru.has_closed_form)
    monkeypatch.setattr(
        module,
        "measured",
        lambda *_: (
            dict.fromkeys(("cpu_s_per_1k_without", "cpu_s_per_1k"), 0.5)
            | dict.fromkeys(("cpu_ratio", "wall_ratio", "wall_ratio_min", "wall_ratio_max"), 2.0)
        ),
    )
    module.main(["--only", "bf16", "--out", str(tmp_path / "a.csv")])
    assert [row["of"] for row in table(tmp_path / "a.csv")] == ["full", "plain", "plain, 256-256"]


def test_speed_ups_on_paper_follow_from_their_inputs(load: Any, monkeypatch: pytest.MonkeyPatch):
    paper = load("scale_out")
    ring, tree = paper.Network(100.0, 8.0), paper.Network(100.0, 8.0, is_tree=True)
    # Four processes: 6 hops of 0.1 ms in a ring, 4 in a tree; 1 MB passes 1.5 times at 1 MB a millisecond.
    assert ring.message_ms(4, 1000) == pytest.approx(0.6 + 1.5)
    assert tree.message_ms(4, 1000) == pytest.approx(0.4 + 1.5)
    work = paper.Work("x", update_ms=100.0, games_ms=40.0, steps=10, kilobytes=0.0)
    nothing = paper.Network(0.0, 1.0)
    # 10 steps of 1 ms stay, 50 ms of arithmetic are divided, and 40 ms of games by the two workers too.
    divided, grown = paper.speed_ups(work, nothing, 5, 1.0, 2)
    assert divided == pytest.approx(80 / (10 + 70 / 5))
    assert grown == pytest.approx(5)
    assert paper.speed_ups(work, ring, 5, 1.0, 2)[1] < 5


def test_the_page_shows_the_speed_ups_of_the_script(load: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr(sys, "argv", ["scale_out.py"])
    load("scale_out").main()
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    for shown in capsys.readouterr().out.strip().split("\n\n"):
        assert shown in page
