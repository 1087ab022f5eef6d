"""JaxMARL's own training scripts for `run.py`, unchanged: their `make_train`, compiled for one seed.

The scripts log each update by `wandb.log`, called back from the compiled loop. A stand-in for `wandb` waits there for
the driver's requests, so that the loop takes turns with other systems.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from protocol import Turns

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"


def load(script: Path) -> ModuleType:
    """Import a script from its file."""
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Train as `run.py` requests it."""
    given = json.loads(sys.argv[1])
    turns = Turns(given["burn_in"], ("jax", "jaxlib", "flax", "optax", "distrax"))
    source = Path(sys.prefix) / "source"
    sys.path.insert(0, str(source))

    def log(metrics: dict[str, Any]) -> None:
        # Both scripts report three times the sum over agents, "to match the on-policy codebase".
        returns = metrics.get("returns", metrics.get("returned_episode_returns"))
        turns.end_of_update(float(returns))

    wandb = ModuleType("wandb")
    wandb.log = log  # pyright: ignore
    sys.modules["wandb"] = wandb
    import jax
    from omegaconf import OmegaConf

    script = source / "baselines" / given["script"]
    shipped = OmegaConf.to_container(OmegaConf.load(script.parent / "config" / given["settings"]))
    settings = shipped | given["changes"]
    settings["TOTAL_TIMESTEPS"] = int(settings["TOTAL_TIMESTEPS"])
    jax.jit(load(script).make_train(settings))(jax.random.PRNGKey(given["seed"]))


if __name__ == "__main__":
    main()
