"""Names of metrics, and facts about a run, for TensorBoard and trackers. Imports no torch."""

import re
from typing import Any

# Groups of metrics, with patterns of their names. All others are in the group "train".
_GROUPS = {
    "eval": "eval_.*",
    "critic": "value|value_loss|explained_variance|grad_norm_critic|critic_lr",
    "loss": ".*_loss",
    "policy": "entropy|approx_kl|clip_fraction|grad_norm_actor",
    "return": "return_.*",
    "optimizer": ".*_lr|.*_weight|skipped_steps|epochs",
}


def metric_tag(name: str) -> str:
    """Return the tag of a metric: its group, a slash, its name."""
    group = next((group for group, names in _GROUPS.items() if re.fullmatch(names, name)), "train")
    return f"{group}/{name.removeprefix('eval_').removeprefix('return_')}"


def timing_tag(name: str) -> str:
    """Return the tag of a column of `timing.csv`."""
    return f"time/{name}"


def run_facts(run: dict[str, Any]) -> dict[str, Any]:
    """Return environment, versions and settings of a `config.json`, the settings by their dotted names."""
    facts = {"environment": run["env"], "mappo": run.get("mappo"), "torch": run.get("torch")}
    settings = {f"{section}.{k}": x for section, options in run["config"].items() for k, x in options.items()}
    return facts | settings
