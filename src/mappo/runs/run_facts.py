"""Facts about a run for TensorBoard and trackers. Imports no torch."""

from typing import Any


def run_facts(run: dict[str, Any]) -> dict[str, Any]:
    """Return environment, versions and settings of a `config.json`, the settings by their dotted names."""
    facts = {"environment": run["env"], "mappo": run.get("mappo"), "torch": run.get("torch")}
    settings = {f"{section}.{k}": x for section, options in run["config"].items() for k, x in options.items()}
    return facts | settings
