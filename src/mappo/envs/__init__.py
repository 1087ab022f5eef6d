"""Environments by name: built in, from other packages, your own.

`make(NAME, num_envs)` returns a batched `Environment`. torch is imported only to make environments.
"""

from mappo.envs.create import baselines as baselines
from mappo.envs.create import factory as factory
from mappo.envs.create import for_training as for_training
from mappo.envs.create import from_python as from_python
from mappo.envs.create import make as make
from mappo.envs.create import make_envs as make_envs
from mappo.envs.create import num_envs_for as num_envs_for
from mappo.envs.from_user import is_batched as is_batched
from mappo.envs.from_user import name_of as name_of
from mappo.envs.names import CUSTOM as CUSTOM
from mappo.envs.names import check_name as check_name
from mappo.envs.names import is_code as is_code
from mappo.envs.names import original_name as original_name
from mappo.envs.names import package_version as package_version
from mappo.envs.names import translate_options as translate_options
from mappo.envs.registry import FAMILIES as FAMILIES
from mappo.envs.registry import NATIVE as NATIVE
