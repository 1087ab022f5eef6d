"""Names of metrics in TensorBoard and in trackers: a group, a slash, the metric's name. Imports no torch."""

import re

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
    """Return the tag of a metric."""
    group = next((group for group, names in _GROUPS.items() if re.fullmatch(names, name)), "train")
    return f"{group}/{name.removeprefix('eval_').removeprefix('return_')}"


def timing_tag(name: str) -> str:
    """Return the tag of a column of `timing.csv`."""
    return f"time/{name}"
