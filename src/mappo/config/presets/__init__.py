"""Settings that are known to learn, one file for each environment. Imports no torch."""

import difflib

from mappo.config import Config, EnvConfig
from mappo.config.presets import battle, lbf, mamujoco, reference, rware, speaker_listener, spread, vmas
from mappo.errors import UserError

PRESETS: dict[str, dict[str, Config]] = {
    "spread": spread.PRESETS,
    "spread/paper": spread.PRESETS,
    "mpe2/simple_spread_v3": spread.PRESETS,
    "speaker_listener": speaker_listener.PRESETS,
    "mpe2/simple_speaker_listener_v4": speaker_listener.PRESETS,
    "reference": reference.PRESETS,
    "mpe2/simple_reference_v3": reference.PRESETS,
    "battle": battle.PRESETS,
    "vmas/balance": vmas.BALANCE_PRESETS,
}
# For all names that begin so.
FAMILIES: dict[str, dict[str, Config]] = {
    "lbf": lbf.PRESETS,
    "rware": rware.PRESETS,
    "mamujoco": mamujoco.PRESETS,
    "vmas": vmas.PRESETS,
}


def preset(env: str, name: str = "default") -> Config:
    """The settings called `name` for an environment; `default` exists for each.

    Raises:
        UserError: there is no such preset.
    """
    known = presets_of(env) or {"default": Config(env=EnvConfig(num_envs=32))}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UserError(f"unknown preset {name!r} for {env}{hint} There are: {', '.join(known)}")


def presets_of(env: str) -> dict[str, Config]:
    """Those that were chosen for an environment, by name; none of one that nobody tuned them for."""
    return PRESETS.get(env) or FAMILIES.get(env.partition("/")[0], {})
