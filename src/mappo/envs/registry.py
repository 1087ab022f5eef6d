"""Tables of mappo's own batched environments, and of the families of other packages. Loads no torch.

`create.make` looks a name up here, and imports `maker` only then.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NativeEnv:
    """A batched environment of mappo itself.

    Args:
        summary: one line for the user.
        maker: `module:function` of this package, called with the number of environments.
        options: keyword arguments behind the name.
        translated_options: options of the original package too, and their names there.
        baselines: `module:function` of this package: from the `Spec` to the scripted policies, by name, that a team is
            compared with, beside the random policy.
    """

    summary: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    translated_options: Mapping[str, str] = field(default_factory=dict[str, str])
    baselines: str | None = None


@dataclass(frozen=True)
class Family:
    """Environments of another package, or batched twins of them, `FAMILY/NAME`.

    Args:
        summary: one line for the user.
        extra: the extra of mappo with the package, see `install_command`; None if PyPI lacks the package.
        package: the distribution; its version is reported.
        module: the module to import; shows whether the package is installed.
        maker: `module:function` of this package, called with NAME.
        examples: some names.
        batched: True if the package itself steps many environments at once.
        agent_option: the option for the number of agents.
        agent_option_names: the names with this option, if not all.
        own_options: options of a twin that its original lacks; a score on the original leaves them out.
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
    own_options: tuple[str, ...] = ()


_MPE2_OPTIONS = {"horizon": "max_cycles", "continuous_actions": "continuous_actions"}

NATIVE = {
    "spread": NativeEnv(
        "mpe2's simple_spread_v3, batched: cover all landmarks without bumping",
        "batched.spread:Spread",
        translated_options={"local_ratio": "local_ratio", **_MPE2_OPTIONS},
        baselines="batched.spread:baselines",
    ),
    "spread/paper": NativeEnv(
        "spread in the conventions of the MAPPO paper's code",
        "batched.spread:Spread",
        {"conventions": "paper"},
        baselines="batched.spread:baselines",
    ),
    "speaker_listener": NativeEnv(
        "mpe2's simple_speaker_listener_v4, batched: a speaker sees the goal, a listener moves",
        "batched.speaker_listener:SpeakerListener",
        translated_options=_MPE2_OPTIONS,
        baselines="batched.speaker_listener:baselines",
    ),
    "reference": NativeEnv(
        "mpe2's simple_reference_v3, batched: each agent knows the other agent's goal, and speaks",
        "batched.reference:Reference",
        translated_options={"local_ratio": "local_ratio", **_MPE2_OPTIONS},
        baselines="batched.reference:baselines",
    ),
    "battle": NativeEnv(
        "a skirmish against scripted enemies: masks, deaths, a state",
        "batched.battle:Battle",
        baselines="batched.battle_scripts:baselines",
    ),
    "matrix/climbing": NativeEnv(
        "a matrix game: the best pair of actions lies beside the worst mistakes", "batched.matrix:climbing"
    ),
    "matrix/penalty": NativeEnv(
        "a matrix game: two best pairs of actions, and a penalty of 100 for mixing them", "batched.matrix:penalty"
    ),
    "probe/constant": NativeEnv("reward 1 at each step, under a time limit", "probes.basic:Constant"),
    "probe/signal": NativeEnv("each agent names the number it observes", "probes.basic:Signal"),
    "probe/memory": NativeEnv("each agent names, at the end, the number observed at the start", "probes.basic:Memory"),
    "probe/mask": NativeEnv("the mask alone shows the right action of two", "probes.basic:Mask"),
    "probe/unequal": NativeEnv(
        "agents with spaces of different sizes, and different right answers", "probes.basic:Unequal"
    ),
    "probe/multidiscrete": NativeEnv("each agent names two numbers, by two heads", "probes.basic:MultiDiscrete"),
    "probe/image": NativeEnv("each agent names the bright quadrant of an image of bytes", "probes.basic:Image"),
    "probe/roles": NativeEnv("agent i must choose i, and all agents observe the same", "probes.basic:Roles"),
    "probe/death": NativeEnv("dying pays 3 at once, living pays 1 at each step", "probes.lives:Death"),
    "probe/respawn": NativeEnv("less reward now pays more in the agent's next life", "probes.lives:Respawn"),
    "probe/arrival": NativeEnv(
        "an agent arrives late, and must remember its first observation", "probes.lives:Arrival"
    ),
    "probe/target": NativeEnv("each agent names an observed point by a continuous action", "probes.continuous:Target"),
    "probe/mixed": NativeEnv("an agent with discrete and an agent with continuous actions", "probes.continuous:Mixed"),
    "probe/combined": NativeEnv("memory, masks, deaths, new lives and unequal agents at once", "probes.lives:Combined"),
}

# Batched families of mappo itself. The names are those of the original's family, see `TWIN_FAMILIES`.
NATIVE_FAMILIES = {
    "foraging": Family(
        "lbforaging, batched: agents load food together, if their levels suffice",
        extra=None,
        package="mappo",
        module="mappo",
        maker="batched.foraging:make",
        examples=("Foraging-8x8-2p-2f-coop-v3", "Foraging-2s-10x10-3p-3f-v3", "Foraging-15x15-4p-3f-v3"),
        batched=True,
    ),
    "warehouse": Family(
        "rware, batched: robots bring requested shelves to the goals; rewards are rare",
        extra=None,
        package="mappo",
        module="mappo",
        maker="batched.warehouse:make",
        examples=("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-small-4ag-v2"),
        batched=True,
        own_options=("ties",),
    ),
}

FAMILIES = {
    "mpe2": Family(
        "particle worlds of PettingZoo",
        extra="mpe",
        package="mpe2",
        module="mpe2",
        maker="adapters.pettingzoo:mpe2",
        examples=("simple_spread_v3", "simple_speaker_listener_v4", "simple_reference_v3"),
        agent_option="N",
        agent_option_names=("simple_spread_v3", "simple_line_v1", "simple_formation_v1"),
    ),
    "lbf": Family(
        "level-based foraging: agents load food together",
        extra="lbf",
        package="lbforaging",
        module="lbforaging",
        maker="adapters.lbf:make",
        examples=("Foraging-8x8-2p-2f-coop-v3", "Foraging-10x10-3p-3f-v3", "Foraging-15x15-4p-3f-v3"),
    ),
    "rware": Family(
        "robots that carry shelves through a warehouse; rewards are rare",
        extra="rware",
        package="rware",
        module="rware",
        maker="adapters.rware:make",
        examples=("rware-tiny-2ag-v2", "rware-tiny-4ag-v2", "rware-small-4ag-v2"),
    ),
    "mamujoco": Family(
        "robots of MuJoCo, a joint or a leg for each agent; continuous",
        extra="mujoco",
        package="gymnasium-robotics",
        module="gymnasium_robotics",
        maker="adapters.pettingzoo:mamujoco",
        examples=("HalfCheetah-2x3", "Ant-4x2", "Hopper-3x1", "Walker2d-2x3"),
    ),
    "sisl": Family(
        "PettingZoo's walkers that carry a package, and pursuers",
        extra="sisl",
        package="pettingzoo",
        module="pettingzoo",
        maker="adapters.pettingzoo:sisl",
        examples=("multiwalker_v9", "pursuit_v5"),
    ),
    "butterfly": Family(
        "PettingZoo's games with images, and archers that die",
        extra="butterfly",
        package="pettingzoo",
        module="pettingzoo",
        maker="adapters.pettingzoo:butterfly",
        examples=("knights_archers_zombies_v11", "pistonball_v6", "cooperative_pong_v6"),
    ),
    "magent2": Family(
        "swarms on a grid, with many deaths",
        extra="magent",
        package="magent2",
        module="magent2",
        maker="adapters.pettingzoo:magent2",
        examples=("battle_v4",),
    ),
    "vmas": Family(
        "physics of many robots, batched in torch (GPL)",
        extra="vmas",
        package="vmas",
        module="vmas",
        maker="adapters.vmas:make",
        examples=("balance", "navigation", "transport"),
        batched=True,
        agent_option="n_agents",
    ),
    "envpool": Family(
        "Jumanji's games as rewritten for envpool, batched in C++",
        extra="envpool",
        package="envpool",
        module="envpool",
        maker="adapters.envpool:make",
        examples=("LevelBasedForaging-v0", "Cleaner-v0"),
        batched=True,
    ),
    "smac": Family(
        "StarCraft II micromanagement",
        extra=None,
        package="smac",
        module="smac",
        maker="adapters.smac:make_smac",
        examples=("3m", "2s3z", "MMM2"),
    ),
    "smacv2": Family(
        "StarCraft II with random teams",
        extra=None,
        package="smacv2",
        module="smacv2",
        maker="adapters.smac:make_smacv2",
        examples=("terran_5_vs_5", "protoss_5_vs_5"),
    ),
    "smaclite": Family(
        "SMAC without StarCraft II",
        extra=None,
        package="smaclite",
        module="smaclite",
        maker="adapters.smac:make_smaclite",
        examples=("2s3z", "3s5z"),
    ),
}
