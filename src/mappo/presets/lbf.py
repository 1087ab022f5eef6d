"""Level-based foraging."""

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Whole episodes of 50 steps. Greedy play wants the rate to fall: two agents that are as likely to wait for each other
# as to go wait for ever.
DEFAULT = Config(
    env=EnvConfig(num_envs=64),
    network=NetworkConfig(hidden=(64, 64), activation="tanh"),
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
    run=RunConfig(total_steps=1_000_000, eval_episodes=64),
)

PRESETS = {"default": DEFAULT}
