"""Agents of `teams` as compiled C files, and their comparison with the modules that they were written from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mappo.deploy.agent_policy import AgentPolicy
from mappo.deploy.build import build_agent_policy
from mappo.deploy.c.program import CProgram, compile_program
from mappo.deploy.c.source import c_files
from mappo.deploy.contract import make_contract
from mappo.envs.vector.team_layout import TeamLayout
from teams import TEAMS, random_actor

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")
SANITIZED = (*STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ORIGIN = {"env": "test", "run": "test", "checkpoint": "last", "step": 10, "precision": "float32"}
TOLERANCE = 1e-5
CLOSE = 1e-4  # logits closer than this may be ranked otherwise


def policy_of(kind: str, index: int = -1, **network: Any) -> AgentPolicy:
    team = TEAMS[kind]
    spec = TeamLayout(team.make()).spec
    actor = random_actor(spec, **team.network | {"precision": "float32"} | network)
    return build_agent_policy(actor.policy, index % spec.num_agents)


def build(policy: AgentPolicy, folder: Path, flags: Any = STRICT, **changes: Any) -> CProgram:
    """Compile a policy's files; `changes` replaces text of `policy.c`, each exactly once."""
    folder.mkdir(exist_ok=True)
    for name, text in c_files(policy, ["A policy of the tests."]).items():
        for old, new in changes.get(name.replace(".", "_"), {}).items():
            assert text.count(old) == 1, (old, text.count(old))
            text = text.replace(old, new)
        (folder / name).write_text(text)
    return compile_program(folder, folder / "policy", make_contract(policy, "a", ORIGIN), flags)


def undecided(policy: AgentPolicy, logits: np.ndarray, mask: np.ndarray, close: float) -> np.ndarray:
    """Rows in which the two best legal logits of a head are close."""
    ends = np.cumsum(policy.heads.categorical)[:-1]
    rows = np.zeros(len(logits), bool)
    for head, legal in zip(np.split(logits, ends, -1), np.split(mask, ends, -1), strict=True):
        legal = legal | ~legal.any(-1, keepdims=True)
        best = np.sort(np.where(legal, head, -np.inf), -1)[:, -2:]
        if best.shape[-1] == 2:
            rows |= best[:, 1] - best[:, 0] <= close
    return rows


def differences(
    policy: AgentPolicy, program: CProgram, inputs: dict[str, torch.Tensor], scale: float = 1.0
) -> list[str]:
    """The names of outputs in which a C program differs from its policy.

    The sums of a layer round by a fraction of their largest number: `scale` is the observations'.
    """
    rounding = scale**0.5
    if any(isinstance(x, nn.Conv2d) for x in policy.modules()):
        rounding *= 3  # of hundreds of products, and random weights: torch's own numbers are off by 6e-6
    with torch.no_grad():
        expected = {name: x.numpy() for name, x in policy(inputs).items()}
    arrays = {name: x.numpy() for name, x in inputs.items()}
    outputs = program.play(arrays)
    assert outputs.keys() == expected.keys()
    pairs = {name: (x, expected[name]) for name, x in outputs.items()}
    unequal = []
    for name, (x, y) in pairs.items():
        assert (x.shape, x.dtype) == (y.shape, y.dtype), name
        if name == "action" and policy.heads.categorical:
            is_close = undecided(policy, expected["logits"], arrays["mask"], CLOSE * scale**0.5)
            assert is_close.mean() < 0.02
            is_same = bool((x == y).reshape(len(y), -1)[~is_close].all())
        elif x.dtype == np.int64:  # noise on the border between two choices is rare
            is_same = bool((x != y).mean() < 2e-3)
        else:
            is_same = bool(np.abs(x - y).max() <= TOLERANCE * rounding * max(1.0, np.abs(y).max()))
        if not is_same:
            unequal.append(name)
    return unequal
