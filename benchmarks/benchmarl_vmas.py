"""mappo and BenchMARL on VMAS balance, or VMAS's simple_spread, with the same settings.

    python3 -m venv /some/where
    /some/where/bin/pip install torch==2.13.0        # first: the very build that mappo runs on
    /some/where/bin/pip install torch==2.13.0 benchmarl==1.5.2 vmas==1.5.2    # brings torchrl 0.11.1, tensordict 0.11.0
    python benchmarks/benchmarl_vmas.py --peer-python /some/where/bin/python  # on a free core; ten minutes

Same package and options, environments, steps of a rollout, minibatches, epochs, layers, tanh; one thread each. Both
have one critic row for a team, no value or advantage normalisation, clip 0.2, gradient norm 5, and a Gaussian whose
deviation the network gives, squashed by tanh. BenchMARL logs and evaluates nothing; mappo writes its run directory as
always, and tunes malloc as its command line does.

Each run is a process of its own, and systems take turns. Seconds for 1,000 environment steps (all agents act once) are
those between the end of the burn-in and the last update; `whole_*` are of the process, from start to exit.
"""

import argparse
import contextlib
import json
import resource
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

# The peer runs this file too, where there is no mappo: what is not of the standard library is imported where needed.


@dataclass(frozen=True)
class Setting:
    """What both are given."""

    envs: int
    length: int
    minibatches: int
    epochs: int
    hidden: tuple[int, ...]
    burn_in: int
    updates: int
    task: str = "balance"

    @property
    def steps(self) -> int:
        """Of one update."""
        return self.envs * self.length


SETTINGS = {
    "spread": Setting(128, 25, 1, 10, (64, 64), 3, 20, "simple_spread"),  # of the MAPPO paper, on its own game
    "paper": Setting(128, 25, 1, 10, (64, 64), 3, 20),  # the same, on another game
    "shipped": Setting(10, 600, 15, 45, (256, 256), 1, 2),  # BenchMARL's own, as it comes
    "large": Setting(600, 100, 15, 45, (256, 256), 1, 1),  # the same with many environments
}
# BenchMARL's own configuration of the scenarios.
TASKS: dict[str, dict[str, Any]] = {
    "balance": {"n_agents": 4, "random_package_pos_on_line": True, "package_mass": 5, "max_steps": 100},
    "simple_spread": {"n_agents": 3, "obs_agents": True, "max_steps": 100},
}
GAMMA, LAMBDA, LR, ADAM_EPS, GRAD_NORM = 0.99, 0.9, 5e-5, 1e-6, 5.0


class Marks:
    """Clock and CPU time, of this process and those it waited for, at the end of each update."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def add(self) -> None:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.times.append((time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used)))


def ours(setting: Setting, seed: int, folder: Path) -> tuple[Marks, float]:
    """A run by the public API; also the mean return of the episodes that ended last."""
    import mappo
    from mappo import EnvConfig, NetworkConfig, PPOConfig, RunConfig
    from mappo.system import hardware as machine

    machine.keep_freed_memory()
    marks, updates, returns = Marks(), setting.burn_in + setting.updates, list[float]()

    def after(update: Any) -> None:
        marks.add()
        returns.append(update.metrics["return_sum"])
        if len(marks.times) == updates:
            raise mappo.StopTraining

    config = mappo.Config(
        EnvConfig(setting.envs, options=tuple(f"{n}={json.dumps(x)}" for n, x in TASKS[setting.task].items())),
        NetworkConfig(setting.hidden, "tanh", action_bounds="tanh", action_std="state"),
        PPOConfig(
            rollout_length=setting.length,
            epochs=setting.epochs,
            minibatches=setting.minibatches,
            gamma=GAMMA,
            gae_lambda=LAMBDA,
            entropy_weight=0.0,
            value_norm=False,
            advantage_norm=False,
            actor_lr=LR,
            critic_lr=LR,
            adam_eps=ADAM_EPS,
            max_grad_norm=GRAD_NORM,
        ),
        RunConfig(
            total_steps=setting.steps * (updates + 1),  # it stops before the last, which would be evaluated
            seed=seed,
            dir=str(folder / "run"),
            device="cpu",
            eval_interval=2**62,
            progress="off",
        ),
    )
    mappo.train(f"vmas/{setting.task}", config, callback=after)
    return marks, returns[-1]


def peer(setting: Setting, seed: int, folder: Path) -> tuple[Marks, float]:
    """A run of BenchMARL's Experiment."""
    import torch
    from benchmarl.algorithms import MappoConfig
    from benchmarl.environments import VmasTask
    from benchmarl.experiment import Callback, Experiment, ExperimentConfig
    from benchmarl.models.mlp import MlpConfig

    torch.set_num_threads(1)
    marks = Marks()

    class Mark(Callback):
        def on_train_end(self, training_td: Any, group: str) -> None:
            marks.add()

    config = ExperimentConfig.get_from_yaml()
    config.on_policy_n_envs_per_worker, config.on_policy_collected_frames_per_batch = setting.envs, setting.steps
    config.on_policy_minibatch_size = setting.steps // setting.minibatches
    config.on_policy_n_minibatch_iters = setting.epochs
    config.max_n_frames, config.max_n_iters = None, setting.burn_in + setting.updates
    config.gamma, config.lr, config.adam_eps, config.clip_grad_val = GAMMA, LR, ADAM_EPS, GRAD_NORM
    config.evaluation, config.loggers, config.create_json = False, [], False
    config.save_folder = str(folder)
    algorithm = MappoConfig.get_from_yaml()
    algorithm.lmbda, algorithm.entropy_coef = LAMBDA, 0.0
    task = VmasTask[setting.task.upper()].get_from_yaml()
    task.config = dict(TASKS[setting.task])
    model = MlpConfig(num_cells=list(setting.hidden), layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    experiment = Experiment(task, algorithm, model, seed, config)  # makes the critic alike
    experiment.callbacks.append(Mark())  # only now: it pickles those that it is given
    experiment.run()
    return marks, float(experiment.mean_return)


def vmas_alone(setting: Setting, seed: int, folder: Path) -> tuple[Marks, float]:
    """The package's own work, at random actions: what no learner gets below."""
    import torch

    import mappo

    torch.set_num_threads(1)
    marks, env = Marks(), mappo.make(f"vmas/{setting.task}", setting.envs, options=TASKS[setting.task])
    env.reset(seed)
    for _ in range(setting.burn_in + setting.updates):
        for action in torch.rand(setting.length, setting.envs, env.spec.num_agents, 2) * 2 - 1:
            env.step(action)
        marks.add()
    return marks, float("nan")


SYSTEMS = {"mappo": ours, "benchmarl": peer, "vmas alone": vmas_alone}


def work(system: str, setting: Setting, seed: int, out: Path) -> None:
    """What one process does: a run, and its marks into a file."""
    from importlib import metadata

    with tempfile.TemporaryDirectory() as folder:
        marks, result = SYSTEMS[system](setting, seed, Path(folder))
    versions = []
    for package in ("benchmarl", "torchrl", "tensordict", "vmas", "torch"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    out.write_text(json.dumps({"marks": marks.times, "return": result, "versions": " ".join(versions)}))


def per_thousand(marks: list[tuple[float, float]], setting: Setting) -> tuple[float, float]:
    """Clock and CPU seconds for 1,000 environment steps, behind the burn-in."""
    first, last = marks[setting.burn_in - 1], marks[-1]
    scale = 1000 / (setting.updates * setting.steps)
    return (last[0] - first[0]) * scale, (last[1] - first[1]) * scale


def summary(found: dict[str, list[dict[str, Any]]], setting: Setting) -> list[dict[str, Any]]:
    """A row for each system; ratios are BenchMARL / this, within each round, the median over rounds."""
    rates = {system: [per_thousand(run["marks"], setting) for run in runs] for system, runs in found.items()}
    rows: list[dict[str, Any]] = []
    for system, runs in found.items():
        wall, cpu = zip(*rates[system], strict=True)
        ratios = [
            statistics.median(theirs[i] / own[i] for theirs, own in zip(rates["benchmarl"], rates[system], strict=True))
            for i in (0, 1)
        ]
        rows.append(
            {
                "system": system,
                "cpu_s_per_1k": round(statistics.median(cpu), 5),
                "cpu_s_min": round(min(cpu), 5),
                "cpu_s_max": round(max(cpu), 5),
                "wall_s_per_1k": round(statistics.median(wall), 5),
                "cpu_ratio": round(ratios[1], 2),
                "wall_ratio": round(ratios[0], 2),
                "whole_cpu_s": round(statistics.median(run["whole"][1] for run in runs), 2),
                "whole_wall_s": round(statistics.median(run["whole"][0] for run in runs), 2),
                "whole_steps": (setting.burn_in + setting.updates) * setting.steps,
                "return": "" if system == "vmas alone" else round(statistics.fmean(run["return"] for run in runs), 3),
                "rounds": len(runs),
                "versions": runs[0]["versions"],
            }
        )
    return rows


def run_once(python: str, system: str, name: str, setting: Setting, seed: int, folder: Path) -> dict[str, Any]:
    """One process; what it found, and what the whole of it took."""
    from record import fail, run, tail

    out, log = folder / "marks.json", folder / "log.txt"
    out.unlink(missing_ok=True)
    asked = [str(setting.burn_in), str(setting.updates), str(seed), str(out)]
    used = run([python, __file__, "--work", system, name, *asked], log)
    if used.code or not out.exists():
        fail(f"the run of {system} by {python} failed: {tail(log)}")
    return json.loads(out.read_text(encoding="utf-8")) | {"whole": (used.wall, used.cpu)}


def main() -> None:
    """Takes turns, prints, and adds the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="of the environment that BenchMARL is installed in")
    parser.add_argument(
        "--settings",
        nargs="+",
        choices=SETTINGS,
        default=["spread", "paper", "shipped"],
        help="a round of large takes ten minutes by itself",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burn-in", type=int, help="updates before the clock is read; by default of the setting")
    parser.add_argument("--updates", type=int, help="updates that are timed; by default of the setting")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "benchmarl.csv")
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)  # what the processes are told
    args = parser.parse_args()
    if args.work:
        system, name, burn_in, updates, seed, out = args.work
        setting = replace(SETTINGS[name], burn_in=int(burn_in), updates=int(updates))
        work(system, setting, int(seed), Path(out))
        return
    if args.peer_python is None or shutil.which(args.peer_python) is None:
        parser.error("--peer-python must be the python that BenchMARL is installed for; --help tells how to make one")
    if min(args.rounds, args.burn_in or 1, 1 if args.updates is None else args.updates) < 1:
        parser.error("--rounds, --burn-in and --updates must be at least 1")
    from record import append, circumstances

    for name in args.settings:
        setting, where = SETTINGS[name], circumstances()
        setting = replace(setting, burn_in=args.burn_in or setting.burn_in, updates=args.updates or setting.updates)
        found: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
        with tempfile.TemporaryDirectory() as folder:
            for index in range(args.rounds):
                for system in SYSTEMS:
                    python = args.peer_python if system == "benchmarl" else sys.executable
                    found[system].append(run_once(python, system, name, setting, index + 1, Path(folder)))
                    wall, cpu = per_thousand(found[system][-1]["marks"], setting)
                    print(f"{name} round {index + 1}: {system} {cpu:.4f} CPU-s, {wall:.4f} s / 1,000 steps", flush=True)
        rows = summary(found, setting)
        for row in rows:
            print("{system:<10} {cpu_s_per_1k:.4f} CPU-s / 1,000 steps, ratio {cpu_ratio:.2f}".format(**row))
        told = {"settings": name, **asdict(setting), "hidden": "-".join(map(str, setting.hidden))}
        append(args.out, [where | told | row for row in rows])


if __name__ == "__main__":
    main()
