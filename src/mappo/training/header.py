"""Lines about a run at its start: preset, changed settings, device and threads. `preflight` shows them.

The learning curve names the settings too.
"""

import re
from pathlib import Path

import torch

from mappo.config import Config
from mappo.envs.names import nearest_preset
from mappo.runs.names import plain_name

# Settings in other lines of the header, or without effect on the results.
_APART = {
    *(("run", name) for name in ("name", "dir", "exists", "seed", "seeds", "device", "threads", "processes")),
    *(("run", name) for name in ("progress", "restarts", "score_episodes", "replay_episodes")),
}
_MOST = 8  # changed settings in a line


def settings_line(name: str, config: Config) -> str:
    """Return the preset with the fewest differences, and the differences.

    Args:
        name: name of the environment.
        config: settings of the run.
    """
    key, base = nearest_preset(name, config, _APART)
    title = f"preset {key}" if key else "general settings"
    changes = config.differences(base, _APART)
    texts = [f"{option.replace('_', '-')} {rest}" for option, _, rest in (c.partition(" ") for c in changes)]
    more = f"; {len(texts) - _MOST} more in config.json" if len(texts) > _MOST else ""
    return f"{title}, with {'; '.join(texts[:_MOST])}{more}" if texts else title


def device_line(device: torch.device, threads: int) -> str:
    """Return where a run is computed."""
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"{device.type}{name}, {threads} thread{'s' * (threads > 1)}"


def number_note(path: Path, name: str, config: Config) -> str:
    """Return a note if the number in the name of a run's directory may be taken for the seed, else ""."""
    found = re.fullmatch(rf"{re.escape(plain_name(name))}-(\d+)", path.name)
    run = config.run
    if found is None or run.name or run.dir or run.seeds > 1 or int(found[1]) == run.seed:
        return ""
    return f"{path.name} is run number {found[1]} of {name}, and its seed is {run.seed}"
