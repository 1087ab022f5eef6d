"""Level-based foraging."""

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Whole episodes of 50 steps. Agents that play alike and greedily wait for each other for ever: an id tells them apart.
DEFAULT = Config(
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
    run=RunConfig(total_steps=2_000_000, eval_episodes=64),
)

PRESETS = {"default": DEFAULT}
