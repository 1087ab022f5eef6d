"""mpe2's simple_spread. `docs/negative-results.md` tells what else was tried."""

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

DEFAULT = Config(
    env=EnvConfig(num_envs=128),
    network=NetworkConfig(hidden=(64, 64), activation="relu"),
    ppo=PPOConfig(
        rollout_length=25,
        epochs=10,
        minibatches=4,
        gamma=0.95,
        entropy_weight=0.005,
        actor_lr=2e-3,
        critic_lr=2e-3,
    ),
    run=RunConfig(total_steps=2_000_000),
)

LONG = DEFAULT

# arXiv:2103.01955 and its code's script for this task.
PAPER = Config(
    env=EnvConfig(num_envs=128),
    network=NetworkConfig(hidden=(64, 64), activation="relu", layer_norm=True),
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
    run=RunConfig(total_steps=20_000_000),
)

PRESETS = {"default": DEFAULT, "long": LONG, "paper": PAPER}
