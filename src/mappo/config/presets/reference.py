"""mpe2's simple_reference. `docs/negative-results.md` tells what else was tried."""

from dataclasses import replace

from mappo.config.presets import spread

# As spread, with a shorter horizon, larger steps, and an entropy bonus that falls to nothing. With the 0.05 of
# speaker_listener a language comes late: -23.7 after two million steps.
DEFAULT = replace(
    spread.DEFAULT,
    ppo=replace(spread.DEFAULT.ppo, gamma=0.8, actor_lr=3e-3, critic_lr=3e-3, entropy_weight=0.02, entropy_final=0.0),
)

PRESETS = {"default": DEFAULT}
