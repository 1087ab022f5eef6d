"""The tables of environments: the batched ones that mappo holds, and the families of other packages. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NativeEnv:
    """A batched environment of mappo's own.

    Args:
        what: one line for the user. maker: a module of this package, and what of it to call; imported when asked for.
        options: what the name stands for. originals: the package that it follows step for step, and its name there.
        carried: options that the package has too, and what they are called there.
        baselines: a module and function that tells whom a team of so many agents is measured by, beside the random one.
    """

    summary: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    originals: Mapping[str, str] = field(default_factory=dict[str, str])
    translated_options: Mapping[str, str] = field(default_factory=dict[str, str])
    baselines: str | None = None


@dataclass(frozen=True)
class Family:
    """Environments of another package, `FAMILY/NAME`.

    Args:
        what: one line for the user. extra: what installs it, as in `pip install 'mappo[extra]'`; none if PyPI lacks it.
        package: that tells its version. module: what imports it, for the same question.
        maker: a module of this package, and what of it to call. examples: some names.
        batched: it steps many games at once by itself.
        count: the option that sets the number of agents. counted: the names that have it, if not all.
    """

    summary: str
    extra: str | None
    package: str
    module: str
    maker: str
    examples: tuple[str, ...]
    batched: bool = False
    agent_option: str | None = None
    agent_option_names: tuple[str, ...] = ()


NATIVE = {
    "spread": NativeEnv(
        "mpe2's simple_spread_v3, batched: cover all landmarks without bumping",
        "batched.spread:Spread",
        originals={"mpe2": "mpe2/simple_spread_v3"},
        translated_options={"horizon": "max_cycles", "local_ratio": "local_ratio"},
        baselines="batched.spread:baselines",
    ),
    "spread/paper": NativeEnv(
        "spread in the conventions of the MAPPO paper's code",
        "batched.spread:Spread",
        {"conventions": "paper"},
        baselines="batched.spread:baselines",
    ),
    "speaker_listener": NativeEnv(
        "mpe2's simple_speaker_listener_v4, batched: one sees the goal, the other moves",
        "batched.speaker_listener:SpeakerListener",
        originals={"mpe2": "mpe2/simple_speaker_listener_v4"},
        translated_options={"horizon": "max_cycles"},
        baselines="batched.speaker_listener:baselines",
    ),
    "reference": NativeEnv(
        "mpe2's simple_reference_v3, batched: each knows the other's goal, and speaks",
        "batched.reference:Reference",
        originals={"mpe2": "mpe2/simple_reference_v3"},
        translated_options={"horizon": "max_cycles", "local_ratio": "local_ratio"},
        baselines="batched.reference:baselines",
    ),
    "battle": NativeEnv(
        "a skirmish against scripted enemies: masks, deaths, a state",
        "batched.battle:Battle",
        baselines="batched.battle_scripts:baselines",
    ),
    "matrix/climbing": NativeEnv(
        "a matrix game: the best pair stands next to the dearest mistakes", "batched.matrix:climbing"
    ),
    "matrix/penalty": NativeEnv(
        "a matrix game: two best pairs, and 100 to pay for choosing one of each", "batched.matrix:penalty"
    ),
    "probe/constant": NativeEnv("reward 1 for ever, seen through a time limit", "probes.basic:Constant"),
    "probe/signal": NativeEnv("each agent names the number it sees", "probes.basic:Signal"),
    "probe/memory": NativeEnv("each agent names, at the end, the number it saw at the start", "probes.basic:Memory"),
    "probe/mask": NativeEnv("the mask alone tells which of two actions is right", "probes.basic:Mask"),
    "probe/unequal": NativeEnv(
        "agents of different sizes, with different answers to what they see", "probes.basic:Unequal"
    ),
    "probe/multidiscrete": NativeEnv("each agent names two numbers, by two heads", "probes.basic:MultiDiscrete"),
    "probe/image": NativeEnv("each agent names the bright quadrant of an image of bytes", "probes.basic:Image"),
    "probe/roles": NativeEnv("agent i is given i for ever, and all see the same", "probes.basic:Roles"),
    "probe/death": NativeEnv("to die brings 3 at once, to live 1 for ever", "probes.lives:Death"),
    "probe/respawn": NativeEnv("what an agent sacrifices, its next life gets", "probes.lives:Respawn"),
    "probe/arrival": NativeEnv(
        "one agent comes later, and must remember its first observation", "probes.lives:Arrival"
    ),
    "probe/target": NativeEnv("each agent answers a point by another, in a box of numbers", "probes.continuous:Target"),
    "probe/mixed": NativeEnv("one agent chooses, the other answers by a number", "probes.continuous:Mixed"),
    "probe/combined": NativeEnv("memory, masks, deaths, new lives and unequal agents at once", "probes.lives:Combined"),
}

FAMILIES = {
    "mpe2": Family(
        "particle worlds of PettingZoo's",
        "mpe",
        "mpe2",
        "mpe2",
        "adapters.pettingzoo:mpe2",
        ("simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"),
        agent_option="N",
        agent_option_names=("simple_spread_v3", "simple_line_v1", "simple_formation_v1"),
    ),
    "lbf": Family(
        "level-based foraging: agents load food together",
        "lbf",
        "lbforaging",
        "lbforaging",
        "adapters.lbf:make",
        ("Foraging-8x8-2p-2f-coop-v3", "Foraging-10x10-3p-3f-v3", "Foraging-15x15-4p-3f-v3"),
    ),
    "rware": Family(
        "robots that carry shelves through a warehouse; rewards are rare",
        "rware",
        "rware",
        "rware",
        "adapters.rware:make",
        ("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-small-4ag-v2"),
    ),
    "mamujoco": Family(
        "robots of MuJoCo, a joint or a leg for each agent; continuous",
        "mujoco",
        "gymnasium-robotics",
        "gymnasium_robotics",
        "adapters.pettingzoo:mamujoco",
        ("HalfCheetah-2x3", "Ant-4x2", "Hopper-3x1", "Walker2d-2x3"),
    ),
    "sisl": Family(
        "PettingZoo's walkers that carry a package, and pursuers",
        "sisl",
        "pettingzoo",
        "pettingzoo",
        "adapters.pettingzoo:sisl",
        ("multiwalker_v9", "pursuit_v5"),
    ),
    "butterfly": Family(
        "PettingZoo's games of images and of archers who die",
        "butterfly",
        "pettingzoo",
        "pettingzoo",
        "adapters.pettingzoo:butterfly",
        ("knights_archers_zombies_v11", "pistonball_v6", "cooperative_pong_v6"),
    ),
    "magent2": Family(
        "swarms on a grid, many of whom die",
        "magent",
        "magent2",
        "magent2",
        "adapters.pettingzoo:magent2",
        ("battle_v4",),
    ),
    "vmas": Family(
        "physics of many robots, batched in torch (GPL)",
        "vmas",
        "vmas",
        "vmas",
        "adapters.vmas:make",
        ("balance", "navigation", "transport"),
        batched=True,
        agent_option="n_agents",
    ),
    "envpool": Family(
        "Jumanji's games as rewritten for envpool, batched in C++",
        "envpool",
        "envpool",
        "envpool",
        "adapters.envpool:make",
        ("LevelBasedForaging-v0", "Cleaner-v0"),
        batched=True,
    ),
    "smac": Family(
        "StarCraft II micromanagement", None, "smac", "smac", "adapters.smac:make_smac", ("3m", "2s3z", "MMM2")
    ),
    "smacv2": Family(
        "StarCraft II with drawn teams",
        None,
        "smacv2",
        "smacv2",
        "adapters.smac:make_smacv2",
        ("terran_5_vs_5", "protoss_5_vs_5"),
    ),
    "smaclite": Family(
        "SMAC without StarCraft II", None, "smaclite", "smaclite", "adapters.smac:make_smaclite", ("2s3z", "3s5z")
    ),
}
