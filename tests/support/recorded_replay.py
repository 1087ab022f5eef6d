"""Run directories for pages: a replay with given pictures, and a run of a stranger with markup in each text."""

import json
from pathlib import Path

import numpy as np

from mappo.evaluation.gif import Film, write_gif
from recorded_runs import changed, evaluated, record_run

ATTACK = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
CLOSING = "</script></style></title><svg onload=\"document.title='hacked'\">{{ 7*7 }}"


def film(out: Path, episodes: int = 2, length: int = 5) -> None:
    """A dot that moves: the picture of each step, with its text."""
    shown: list[Film] = []
    for episode in range(episodes):
        frames = [np.full((40, 60, 3), 250, np.uint8) for _ in range(length)]
        for step, frame in enumerate(frames):
            frame[10:20, 10 * step : 10 * step + 8] = (200, 30, 10 * episode)
        shown.append(
            Film(frames, [f"episode {episode + 1}, seed 7   step {k}   return {-k}.00" for k in range(length)])
        )
    write_gif(shown, out)


def hostile_run(path: Path) -> Path:
    """A run with markup in each text of its files, numbers that are not finite, and a GIF that is none."""
    config = changed(env={"options": [f"a={ATTACK}", f"b={CLOSING}"]}, network={"encoder": f"m:{ATTACK}"})
    run = record_run(path, evaluated(-20), [-20.0, -21.0], f"module:{ATTACK}", config)
    data = json.loads((run / "config.json").read_text())
    data["mappo"] = ATTACK
    data["torch"] = {"a": CLOSING}
    data["machine"] = {"cpu": CLOSING, "gpu": ["x" * 10_000], "memory_gib": "\u202egnp"}
    data["source"] = {"run": ATTACK, "step": CLOSING}
    (run / "config.json").write_text(json.dumps(data))
    score = json.loads((run / "score.json").read_text())
    score["package_version"] = ATTACK
    score["baselines"] = {ATTACK: [1.0, 2.0], CLOSING: [1e99, -1e99], "\x1b[31m" + "x" * 5000: [0.0, 0.0]}
    (run / "score.json").write_text(json.dumps(score))
    (run / "metrics.csv").write_text(
        f"seed,update,step,return_sum,eval_return,{ATTACK},{CLOSING}\n"
        + "1,1,200,nan,-20,inf,1\n1,2,400,1e308,-inf,-inf,nan\n1,3,1000,-1e308,-20,1,1e300\n"
    )
    (run / "timing.csv").write_text("update,step,cpu_s,elapsed_s\n1,200,nan,inf\n")
    (run / "replay.gif").write_text(f"GIF89a{ATTACK}")
    return run
