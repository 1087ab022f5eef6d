"""Environments by name: built in, from other packages, your own.

`make(NAME, num_envs)` returns a batched `Environment`. torch is imported only to make environments.
"""

from mappo.envs.create import (
    baselines as baselines,
    factory as factory,
    for_training as for_training,
    from_python as from_python,
    make as make,
    make_envs as make_envs,
    num_envs_for as num_envs_for,
)
from mappo.envs.from_user import is_batched as is_batched, name_of as name_of
from mappo.envs.names import (
    CUSTOM as CUSTOM,
    check_name as check_name,
    find_family as find_family,
    is_native as is_native,
    original_name as original_name,
    package_version as package_version,
    preset as preset,
    translate_options as translate_options,
)
from mappo.envs.registry import FAMILIES as FAMILIES, NATIVE as NATIVE, NATIVE_FAMILIES as NATIVE_FAMILIES
