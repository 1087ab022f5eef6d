"""Training on spread beside the MAPPO paper's own code, whose environments are in Python: CPU and clock.

    git clone https://github.com/marlbenchmark/on-policy       # in a place of its own
    python benchmarks/onpolicy_spread.py --peer on-policy      # ten minutes on two free cores

The peer runs as its own script for spread has it (tanh and LayerNorm, 128 environments of 25 steps in 128 processes, 10
epochs; with a GRU, `rmappo`, and without, `mappo`), by this Python; modules that it imports and does not need here,
such as gym and wandb, have stand-ins. Ours is `--preset paper`, and with a GRU of 64: the same settings on the twin of
mpe2's game. Each is timed as a program, once short and once long, the difference being training without starts. Rounds
take turns; ratios are medians of the rounds'. Adds to benchmarks/results/onpolicy.csv.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from record import RESULTS, Usage, append, circumstances, fail, run, tail

STEPS = 128 * 25  # of one update
NETWORKS = {"feed-forward": 0, "gru": 64}
STAND_INS = {
    "gym": """
import sys, types
from gymnasium import Env, Space, error, spaces
from gymnasium.envs.registration import EnvSpec
sys.modules.update({"gym.spaces": spaces, "gym.error": error})
for name in ("gym.envs", "gym.envs.registration"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["gym.envs.registration"].EnvSpec = EnvSpec
__path__ = []
""",
    "tensorboardX": """
class SummaryWriter:
    def __init__(self, *_, **__): pass
    def add_scalars(self, *_, **__): pass
    def export_scalars_to_json(self, *_): pass
    def close(self): pass
""",
    "seaborn": "color_palette = lambda *_, **__: [(0, 0, 0)] * 64",
    "setproctitle": "setproctitle = lambda _: None",
    "wandb": "",
    "imageio": "",
}
OURS = """
import sys
from dataclasses import replace
import mappo
from mappo import machine
folder, updates, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
machine.keep_freed_memory()
def after(update):
    if update.index == updates:
        raise mappo.StopTraining
base = mappo.preset("spread", "paper")
run = replace(base.run, dir=folder, eval_interval=2**62, progress="off")
network = replace(base.network, memory_size=memory)
mappo.train("spread", replace(base, run=run, network=network), callback=after)
"""


def peer(checkout: Path, memory: int, updates: int, folder: Path) -> Usage:
    """The peer's script for so many updates; its results stay in `folder`."""
    for name, text in STAND_INS.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    paths = os.pathsep.join([str(folder), str(checkout.resolve())])
    script = checkout / "onpolicy/scripts/train/train_mpe.py"
    options = (
        "--env_name MPE --scenario_name simple_spread --num_agents 3 --num_landmarks 3 --seed 1 "
        "--n_training_threads 1 --n_rollout_threads 128 --num_mini_batch 1 --episode_length 25 --ppo_epoch 10 "
        "--gain 0.01 --lr 7e-4 --critic_lr 7e-4 "
        "--use_ReLU --use_wandb "  # switches that turn off what their names say
        f"--algorithm_name {'rmappo' if memory else 'mappo'} --experiment_name {folder.name} "
        f"--num_env_steps {updates * STEPS}"
    )
    os.environ["PYTHONWARNINGS"] = "ignore"
    return timed(["env", f"PYTHONPATH={paths}", sys.executable, str(script), *options.split()], folder)


def ours(_: Path, memory: int, updates: int, folder: Path) -> Usage:
    """This library for so many."""
    return timed([sys.executable, "-c", OURS, str(folder / "run"), str(updates), str(memory)], folder)


def timed(command: Sequence[str], folder: Path) -> Usage:
    """A program to its end, or this one's end with what it said last."""
    log = folder / "log"
    used = run(command, log)
    if used.code:
        fail(f"a program ended with {used.code}: {tail(log)}")
    return used


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of marlbenchmark/on-policy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-updates", type=int, nargs=2, default=(1, 6), help="of its short run and its long one")
    parser.add_argument("--updates", type=int, nargs=2, default=(10, 100), help="of ours")
    parser.add_argument("--out", type=Path, default=RESULTS / "onpolicy.csv")
    args = parser.parse_args(arguments)
    if not (args.peer / "onpolicy/scripts/train/train_mpe.py").is_file():
        fail(f"{args.peer} is no checkout of marlbenchmark/on-policy: clone it, and name its folder by --peer")
    where, rows = circumstances(), list[dict[str, object]]()
    for network, memory in NETWORKS.items():
        spent = rounds(args, network, memory)
        for name, times in spent.items():
            ratios = [[p[i] / own[i] for p, own in zip(spent["on-policy"], times, strict=True)] for i in (0, 1)]
            cpu, wall = (statistics.median(t[i] for t in times) for i in (0, 1))
            by = [round(statistics.median(r), 2) for r in ratios]
            print(f"{network}: {name:10} {cpu:.4f} CPU-s, {wall:.4f} s for 1,000 steps; {by[0]}x and {by[1]}x")
            row = {"network": network, "system": name, "rounds": len(times), "cpu_s_per_1k": round(cpu, 5)}
            rows.append({**where, **row, "wall_s_per_1k": round(wall, 5), "cpu_ratio": by[0], "wall_ratio": by[1]})
    append(args.out, rows)


def rounds(args: argparse.Namespace, network: str, memory: int) -> dict[str, list[tuple[float, float]]]:
    """CPU and wall seconds for 1,000 steps of each system in each round."""
    spent = dict[str, list[tuple[float, float]]]()
    systems = {"on-policy": (peer, args.peer_updates), "mappo": (ours, args.updates)}
    for index in range(args.rounds):
        for name, (system, counts) in systems.items():
            runs: list[Usage] = []
            for count in counts:
                with tempfile.TemporaryDirectory() as folder:
                    runs.append(system(args.peer, memory, count, Path(folder)))
            steps = (counts[1] - counts[0]) * STEPS / 1000
            cpu, wall = (runs[1].cpu - runs[0].cpu) / steps, (runs[1].wall - runs[0].wall) / steps
            spent.setdefault(name, []).append((cpu, wall))
            print(f"{network}, round {index + 1}: {name:10} {cpu:.4f} CPU-s, {wall:.4f} s for 1,000 steps", flush=True)
    return spent


if __name__ == "__main__":
    main()
