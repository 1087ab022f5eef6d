"""Fine-tune a run on another task: train on the paper's conventions of spread, go on with those of mpe2.

Run it with `python examples/fine_tune.py`.
"""

import tempfile
from pathlib import Path

import mappo


def main(folder: Path, total_steps: int = 400_000) -> mappo.Run:
    """Train on `spread/paper`, then on `spread` from these weights; return the second run."""
    first = mappo.train("spread/paper", {"run.dir": folder / "first", "run.total_steps": total_steps})

    # The weights and the statistics of values and observations are taken; optimizer, schedules and counters are new.
    # `@best` or `@200000` behind the path names another checkpoint than the last.
    settings = {
        "run.init_from": first.path,
        "run.init_strict": True,  # both tasks have the same spaces: everything must fit
        "run.dir": folder / "second",
        "run.total_steps": total_steps // 4,
        "ppo.actor_lr": 5e-4,  # gentler than the preset: the policy is good already
        "ppo.critic_lr": 5e-4,
    }
    second = mappo.train("spread", settings)
    print(f"first evaluation from the other task's weights: {first_evaluation(second):.1f}")

    # The second run again, twice as long.
    longer = second.extend(total_steps // 2)
    return mappo.train("spread", longer.config, resume=True)


def first_evaluation(run: mappo.Run) -> float:
    """Return the mean return of a run's first evaluation."""
    returns = run.metrics["eval_return"]
    return float(returns[returns == returns][0])


if __name__ == "__main__":
    main(Path(tempfile.mkdtemp(prefix="fine-tune-")))
