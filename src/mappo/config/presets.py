"""Presets: settings known to learn, for each environment. Imports no torch.

`envs.names.preset` returns a Config. `docs/negative-results.md` lists settings without benefit.
"""

from dataclasses import replace

from mappo.config.config import Config
from mappo.config.run_settings import RunConfig
from mappo.config.settings import EnvConfig, NetworkConfig, PPOConfig

# mpe2's simple_spread: two million steps in the fewest CPU-seconds. Many small gradient steps, on each rollout twice
# as often as in the paper; a horizon of ten steps (gamma 0.9); a learning rate annealed to zero.
SPREAD = Config(
    env=EnvConfig(num_envs=128),
    network=NetworkConfig(hidden=(64, 64), activation="tanh"),
    ppo=PPOConfig(
        rollout_length=25,
        epochs=5,
        minibatches=8,
        gamma=0.9,
        entropy_weight=0.005,
        actor_lr=2e-3,
        critic_lr=2e-3,
        lr_final=0.0,
    ),
    run=RunConfig(total_steps=2_000_000),
)

# Ten times as long, for the best policy: a longer horizon, and an entropy bonus annealed to zero too.
SPREAD_LONG = replace(
    SPREAD,
    ppo=replace(SPREAD.ppo, gamma=0.95, entropy_final=0.0),
    run=RunConfig(total_steps=20_000_000, eval_interval=500_000),
)

# Continuous actions: numbers in place of choices.
SPREAD_CONTINUOUS = replace(SPREAD, env=replace(SPREAD.env, options=("continuous_actions=true",)))

# arXiv:2103.01955, by its code's script for this task, but feed-forward (the script trains a GRU). The script passes
# --use_ReLU, and this flag turns ReLU off: the networks are tanh, with LayerNorm. Unlike the paper's code, the value
# statistics are updated once per rollout, with decay `value_norm_decay`.
SPREAD_PAPER = Config(
    env=EnvConfig(num_envs=128),
    network=NetworkConfig(hidden=(64, 64), activation="tanh", layer_norm=True),
    ppo=PPOConfig(
        rollout_length=25,
        epochs=10,
        minibatches=1,
        gamma=0.99,
        entropy_weight=0.01,
        actor_lr=7e-4,
        critic_lr=7e-4,
        value_clip=0.2,
        huber_delta=10.0,
    ),
    run=RunConfig(total_steps=20_000_000, eval_interval=500_000),
)

# mpe2's simple_speaker_listener: spread's settings with ten times the entropy bonus, annealed to zero. With a smaller
# bonus two of three seeds settled for good on two words for three goals.
SPEAKER_LISTENER = replace(SPREAD, ppo=replace(SPREAD.ppo, entropy_weight=0.05, entropy_final=0.0))

# mpe2's simple_reference: spread's settings with a shorter horizon, a larger learning rate, and an entropy bonus
# annealed to zero. With speaker_listener's 0.05 a language emerges late: return -23.7 after two million steps.
REFERENCE = replace(
    SPREAD,
    ppo=replace(SPREAD.ppo, gamma=0.8, actor_lr=3e-3, critic_lr=3e-3, entropy_weight=0.02, entropy_final=0.0),
)

# mappo's own skirmish needs a longer horizon than spread: with gamma 0.97 the team stays at 93 % of episodes won.
BATTLE = replace(
    SPREAD,
    ppo=replace(SPREAD.ppo, gamma=0.99, entropy_weight=0.01),
    run=RunConfig(total_steps=1_000_000),
)

# Level-based foraging: whole episodes of 50 steps. Under greedy actions agents wait for each other for ever in a part
# of the games, with and without an id, so evaluations sample, as published figures do. Where agents see only two cells
# far (names with 2s) `--network.memory-size 64` ends most of these deadlocks, for four times the time of a step.
LBF = Config(
    env=EnvConfig(num_envs=64),
    network=NetworkConfig(hidden=(64, 64), activation="tanh", agent_id=True),
    ppo=PPOConfig(
        rollout_length=50,
        epochs=5,
        minibatches=8,
        gamma=0.97,
        entropy_weight=0.01,
        actor_lr=1e-3,
        critic_lr=1e-3,
        lr_final=0.0,
        entropy_final=0.0,
    ),
    run=RunConfig(total_steps=2_000_000, eval_episodes=64, eval_policy="sampled"),
)

# The same games in torch, more of them at once. Not tuned anew: the other settings are those of `lbf`.
FORAGING = replace(LBF, env=EnvConfig(num_envs=128))

# MuJoCo's robots, a joint or a leg for each agent. Agents have equal spaces but different bodies: each agent has its
# own network. Episodes last 1,000 steps, and observations have any scale.
MAMUJOCO = Config(
    env=EnvConfig(num_envs=16),
    network=NetworkConfig(hidden=(64, 64), activation="tanh", sharing="none", obs_norm=True),
    ppo=PPOConfig(
        rollout_length=128,
        epochs=8,
        minibatches=16,
        gamma=0.99,
        entropy_weight=0.0,
        actor_lr=5e-4,
        critic_lr=1e-3,
        lr_final=0.0,
    ),
    run=RunConfig(total_steps=1_000_000, eval_episodes=16),
)

# Robots in a warehouse. Rewards are rare, and come long after the action: a long horizon, lasting exploration. In
# one run greedy actions delivered 1.25, sampled actions 4.04: evaluations sample.
RWARE = Config(
    env=EnvConfig(num_envs=32),
    network=NetworkConfig(hidden=(128, 128), activation="tanh"),
    ppo=PPOConfig(
        rollout_length=100,
        epochs=4,
        minibatches=8,
        gamma=0.99,
        entropy_weight=0.01,
        actor_lr=1e-3,
        critic_lr=1e-3,
    ),
    run=RunConfig(total_steps=1_000_000, eval_interval=200_000, eval_episodes=32, eval_policy="sampled"),
)

# The same game in torch: more games at once, and as many steps in a minibatch. Each robot learns from its own
# deliveries: with the team's sum, four robots deliver less than half as many after 1.5 million steps.
WAREHOUSE = replace(
    RWARE,
    env=EnvConfig(num_envs=128, reward="agent"),
    ppo=replace(RWARE.ppo, minibatches=32, lr_final=0.0, entropy_final=0.0),
    run=replace(RWARE.run, total_steps=3_000_000),
)

# VMAS. Two million steps of balance reach a return of 64 to 67. Drag limits the rise of the package to 0.06 in a unit
# of time, and episodes end before the goal: returns far above 67 are out of reach.
VMAS = Config(
    env=EnvConfig(num_envs=256),
    network=NetworkConfig(hidden=(64, 64), activation="tanh"),
    ppo=PPOConfig(
        rollout_length=25,
        epochs=5,
        minibatches=16,
        gamma=0.98,
        entropy_weight=0.0,
        actor_lr=2e-3,
        critic_lr=2e-3,
        lr_final=0.0,
    ),
    run=RunConfig(total_steps=2_000_000),
)
VMAS_BALANCE = replace(VMAS, env=replace(VMAS.env, options=("n_agents=4",)))

# Batched environments of mappo, and the package's environment that each follows step for step.
TWINS = {
    "spread": "mpe2/simple_spread_v3",
    "speaker_listener": "mpe2/simple_speaker_listener_v4",
    "reference": "mpe2/simple_reference_v3",
}

# Families of batched environments of mappo, and the package's family with the same names.
TWIN_FAMILIES = {"foraging": "lbf", "warehouse": "rware"}
_NO_TWIN = ("rware/rware-img",)  # begin of names of the originals that have no twin

_SPREAD_PRESETS = {"default": SPREAD, "long": SPREAD_LONG, "continuous": SPREAD_CONTINUOUS, "paper": SPREAD_PAPER}
PRESETS: dict[str, dict[str, Config]] = {
    "spread": _SPREAD_PRESETS,
    "spread/paper": _SPREAD_PRESETS,
    "speaker_listener": {"default": SPEAKER_LISTENER},
    "reference": {"default": REFERENCE},
    "battle": {"default": BATTLE},
    "vmas/balance": {"default": VMAS_BALANCE},
}
PRESETS.update({original: PRESETS[name] for name, original in TWINS.items()})  # twins are trained alike
FAMILY_PRESETS: dict[str, dict[str, Config]] = {
    "foraging": {"default": FORAGING},
    "lbf": {"default": LBF},
    "rware": {"default": RWARE},
    "mamujoco": {"default": MAMUJOCO},
    "vmas": {"default": VMAS},
    "warehouse": {"default": WAREHOUSE},
}


def original_of(env: str) -> str | None:
    """Return the package's environment that a batched environment follows; None for any other environment."""
    family, _, name = env.partition("/")
    return f"{TWIN_FAMILIES[family]}/{name}" if family in TWIN_FAMILIES else TWINS.get(env)


def twin_of(env: str) -> str | None:
    """Return the batched environment that follows a package's environment; None if there is none."""
    originals = {original: twin for twin, original in TWIN_FAMILIES.items()}
    family, _, name = env.partition("/")
    if family in originals and not env.startswith(_NO_TWIN):
        return f"{originals[family]}/{name}"
    return next((twin for twin, original in TWINS.items() if original == env), None)


def presets_of(env: str) -> dict[str, Config]:
    """Return the presets tuned for an environment, by name; an empty dict if there are none."""
    return PRESETS.get(env) or FAMILY_PRESETS.get(env.partition("/")[0], {})
