"""Agents of `teams` as compiled C files, and their comparison with the modules that they were written from."""

from pathlib import Path
from typing import Any

import torch

from mappo.deploy.agent_policy import AgentPolicy
from mappo.deploy.build import build_agent_policy
from mappo.deploy.c.program import CProgram, compile_program
from mappo.deploy.c.source import c_files
from mappo.deploy.comparison import compare
from mappo.deploy.contract import make_contract
from mappo.deploy.rounding import rounding_tolerance
from mappo.envs.vector.team_layout import TeamLayout
from teams import ORIGIN, TEAMS, random_actor

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1")
SANITIZED = (*STRICT, "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


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


def differences(policy: AgentPolicy, program: CProgram, inputs: dict[str, torch.Tensor]) -> str:
    """The outputs in which a C program differs from its policy, by more than the rounding of these inputs explains."""
    with torch.no_grad():
        expected = {name: x.numpy() for name, x in policy(inputs).items()}
    record = {name: x.numpy() for name, x in inputs.items()} | expected
    outputs = program.play(record)
    assert outputs.keys() == expected.keys()
    for name, x in outputs.items():
        assert (x.shape, x.dtype) == (expected[name].shape, expected[name].dtype), name
    contract = make_contract(policy, "a", ORIGIN, rounding_tolerance(policy, record))
    verdict = compare("policy.c", outputs, record, contract)
    assert verdict.close < 0.02 * verdict.steps
    return verdict.problem
