"""Records the numbers of rliable in expected.json.

rliable 1.2.0 cannot be imported with pandas 3, so it has an environment of its own:

    python -m venv /tmp/rliable && /tmp/rliable/bin/pip install rliable==1.2.0 "pandas<3"
    /tmp/rliable/bin/python tests/data/rliable/record.py
"""

import json
from importlib import metadata
from pathlib import Path

import numpy as np
from rliable import library, metrics

REPS = 50_000
SEEDED_REPS = 2000


def scores(name: str, runs: int, tasks: int, shift: float) -> np.ndarray:
    rng = np.random.default_rng(sum(map(ord, name)))
    values = rng.normal(shift, 1.0, (runs, tasks)) * (1 + np.arange(tasks))
    return np.round(values, 1) if name == "ties" else values


def iqm(values: np.ndarray) -> np.ndarray:
    return np.array([metrics.aggregate_mean(values), metrics.aggregate_iqm(values)])


def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([metrics.probability_of_improvement(x, y)])


def record(name: str, runs: int, others: int, tasks: int) -> dict[str, object]:
    x = scores(name, runs, tasks, 0.7)
    y = scores(name + "other", others, tasks, 0.0)
    np.random.seed(0)  # noqa: NPY002 (rliable draws from numpy's global stream)
    points, intervals = library.get_interval_estimates({"x": x}, iqm, reps=REPS)
    np.random.seed(0)  # noqa: NPY002
    _, seeded = library.get_interval_estimates({"x": x}, iqm, reps=SEEDED_REPS)
    pair, pair_interval = library.get_interval_estimates({"xy": [x, y]}, improvement, reps=REPS)
    return {
        "x": x.T.tolist(),
        "y": y.T.tolist(),
        "mean": points["x"][0],
        "iqm": points["x"][1],
        "iqm_ci95": intervals["x"][:, 1].tolist(),
        "iqm_ci95_seeded": seeded["x"][:, 1].tolist(),
        "improvement": pair["xy"][0],
        "improvement_ci95": pair_interval["xy"][:, 0].tolist(),
    }


CASES = {
    "single": (10, 8, 1),
    "few": (3, 5, 1),
    "suite": (10, 7, 4),
    "ties": (6, 6, 2),
    "odd": (13, 13, 3),
}
data = {name: record(name, *sizes) for name, sizes in CASES.items()}
data["versions"] = {package: metadata.version(package) for package in ("rliable", "numpy", "scipy", "arch")}
Path(__file__).with_name("expected.json").write_text(json.dumps(data, indent=1) + "\n")
