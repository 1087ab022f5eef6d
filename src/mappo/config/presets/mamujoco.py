"""Robots of MuJoCo, a joint or a leg for each agent."""

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Agents look alike and are not: each has a network of its own. Episodes of 1,000 steps, observations of any size.
DEFAULT = Config(
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

PRESETS = {"default": DEFAULT}
