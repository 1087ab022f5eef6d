"""Robots in a warehouse."""

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Rewards are rare, and far behind what earns them: a long horizon, and exploration that lasts.
DEFAULT = Config(
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
    run=RunConfig(total_steps=1_000_000, eval_interval=200_000, eval_episodes=32),
)

PRESETS = {"default": DEFAULT}
