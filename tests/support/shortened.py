"""Run `mappo` or a program as a page shows it, with trainings and evaluations of a few steps.

python shortened.py mappo train spread --ppo.epochs 5
python shortened.py my_command.py --env spread
"""

import runpy
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

SMALL: dict[str, Any] = {
    "env.num_envs": 8,
    "ppo.rollout_length": 10,
    "ppo.minibatches": 2,
    "run.total_steps": 160,
    "run.eval_interval": 80,
    "run.eval_episodes": 2,
    "run.score_episodes": 2,
    "run.replay_episodes": 1,
    "run.progress": "off",
}
# A page trains longer by these options; a short run keeps them short.
LENGTHS = {"--total-steps": "320", "--trials": "3", "--episodes": "2"}


def shorten(words: list[str]) -> list[str]:
    """Return a command of `mappo` with options for a short run; of equal options the last counts."""
    settings = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    more = {"train": settings, "sweep": settings, "evaluate": ["--episodes", "2"], "bench": ["--rounds", "1"]}
    lengths = [word for name, length in LENGTHS.items() if name in words for word in (name, length)]
    is_help = not {"--help", "--help-all"}.isdisjoint(words)
    return [*words, *lengths, *([] if is_help else more.get(words[0], []))]


def shorten_tasks() -> None:
    """Shorten the trainings and scores of all tasks of `mappo reproduce`."""
    from mappo.config.tasks import TASKS

    short = {name: value for name, value in SMALL.items() if name != "run.score_episodes"}
    for name, task in TASKS.items():
        TASKS[name] = replace(task, settings={**task.settings, **short}, episodes=2)


def run_program(words: list[str]) -> None:
    import mappo

    def train(env: Any, config: Mapping[str, Any] | mappo.Config | None = None, **options: Any) -> mappo.Run:
        base = config if isinstance(config, mappo.Config) else mappo.Config.from_dict(config or {}, mappo.preset(env))
        return whole(env, mappo.Config.from_dict(SMALL, base), **options)

    def evaluate(run: mappo.Run, episodes: int = 2, **options: Any) -> dict[str, Any]:
        return score(run, 2, **options)

    whole = mappo.train
    score = mappo.Run.evaluate
    vars(mappo)["train"] = train
    mappo.Run.evaluate = evaluate
    sys.argv = words
    sys.path.insert(0, "")
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "mappo":
        from mappo.__main__ import entry

        sys.argv = ["mappo", *shorten(sys.argv[2:])]
        if sys.argv[1] == "reproduce":
            shorten_tasks()
        entry()
    else:
        run_program(sys.argv[1:])
