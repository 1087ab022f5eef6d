"""A curriculum: the same players and foods on larger and larger fields, each stage from the weights of the last.

Needs level-based foraging, `pip install lbforaging`. Run it with `python examples/curriculum.py`.
"""

import tempfile
from pathlib import Path

import mappo

STAGES = ("lbf/Foraging-8x8-2p-2f-coop-v3", "lbf/Foraging-15x15-2p-2f-coop-v3")


def main(folder: Path, stages: tuple[str, ...] = STAGES, total_steps: int = 200_000, **changes: object) -> mappo.Run:
    """Train stage after stage; return the last run.

    Args:
        folder: holds a run for each stage.
        stages: environments, the easiest first.
        total_steps: steps of each stage.
        changes: further settings, such as `**{"env.num_envs": 8}`.
    """
    settings = {"run.total_steps": total_steps, "run.eval_interval": 50_000, **changes}
    for number, env in enumerate(stages, start=1):
        run = mappo.train(env, {**settings, "run.dir": folder / f"stage-{number}"})
        settings["run.init_from"] = run.path
        returns = run.metrics["return_sum"]
        print(f"{env}: training return {returns[0]:.2f} in the first update, {returns[-1]:.2f} in the last")
    return run


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp(prefix="curriculum-")))
