"""Every setting with its default and bounds, and the presets."""

from mappo.config.config import Config as Config
from mappo.config.run_settings import RunConfig as RunConfig
from mappo.config.settings import EnvConfig as EnvConfig, NetworkConfig as NetworkConfig, PPOConfig as PPOConfig
