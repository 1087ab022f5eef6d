"""mpe2's simple_spread. `docs/negative-results.md` tells what else was tried."""

from dataclasses import replace

from mappo.config import Config, EnvConfig, NetworkConfig, PPOConfig, RunConfig

# Two million steps, in the fewest CPU-seconds: small gradient steps, many of them, on each rollout twice as
# often as the paper's single one; a horizon of ten steps (gamma 0.9), and a learning rate that falls to nothing.
DEFAULT = Config(
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

# Ten times as long, for the best policy: a longer horizon, and an entropy bonus that falls to nothing too.
LONG = replace(
    DEFAULT,
    ppo=replace(DEFAULT.ppo, gamma=0.95, entropy_final=0.0),
    run=RunConfig(total_steps=20_000_000, eval_interval=500_000),
)

# arXiv:2103.01955, by its code's script for this task, feed-forward (the script as it stands trains a GRU). It
# passes --use_ReLU, a flag that turns ReLU off: the networks are tanh, with LayerNorm. Other than there, the value
# statistics move once for each rollout, by `value_norm_decay`.
PAPER = Config(
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

PRESETS = {"default": DEFAULT, "long": LONG, "paper": PAPER}
