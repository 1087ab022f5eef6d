"""VMAS's physics of many robots."""

from dataclasses import replace

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Two million steps of balance: a return of 64 to 67. Drag lets the package rise 0.06 in a unit of time, so that an
# episode ends before the goal: returns far above that are out of reach.
DEFAULT = Config(
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
BALANCE = replace(DEFAULT, env=replace(DEFAULT.env, options=("n_agents=4",)))

PRESETS = {"default": DEFAULT}
BALANCE_PRESETS = {"default": BALANCE}
