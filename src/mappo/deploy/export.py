"""Export of agents' policies: a folder for each agent, complete and proven, or absent."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mappo.deploy.build import build_agent_policy
from mappo.deploy.contract import make_contract, write_contract
from mappo.deploy.formats import Arrays, FormatName, get_format
from mappo.deploy.labels import read_labels
from mappo.deploy.rounding import needed_tolerance
from mappo.deploy.verify import Verdict, verify, write_record
from mappo.errors import UserError
from mappo.policies.policy import Policy
from mappo.system.files import complete_folder, unfinished, write_errors


def export_agents(
    policy: Policy,
    agents: Sequence[str],
    formats: Sequence[FormatName],
    out: Path,
    origin: Mapping[str, Any],
    records: Sequence[Arrays],
    metadata: Mapping[str, Any] = MappingProxyType({}),
) -> dict[Path, list[Verdict]]:
    """Write a folder for each agent, and replay its record with each file.

    Args:
        policy: the team's.
        agents: names of the agents to export.
        formats: kinds of files.
        out: folder of the agents' folders.
        origin: see `make_contract`.
        records: the record of each agent of the team, see `record_steps`.
        metadata: of the environment; see `read_labels`.

    Returns:
        The verdicts of each agent's files, by the agent's folder.

    Raises:
        UserError: a folder exists, a disk is full, a policy has no such form, or a file does not answer as it should.
    """
    folders = {agent: out / name for agent, name in zip(agents, folder_names(agents), strict=True)}
    for folder in folders.values():
        if folder.exists() or folder.is_symlink():
            raise UserError(f"{folder} exists: remove it, or give another folder by --out")
    verdicts: dict[Path, list[Verdict]] = {}
    for agent, folder in folders.items():
        index = policy.spec.agents.index(agent)
        shutil.rmtree(unfinished(folder), ignore_errors=True)  # of a process that was killed
        with write_errors(folder), complete_folder(folder) as temporary:
            verdicts[folder] = _export_agent(policy, index, formats, temporary, origin, records[index], metadata)
    return verdicts


def _export_agent(
    policy: Policy,
    index: int,
    formats: Sequence[FormatName],
    folder: Path,
    origin: Mapping[str, Any],
    record: Arrays,
    metadata: Mapping[str, Any],
) -> list[Verdict]:
    """Write all files of an agent into a folder and replay its record."""
    agent = policy.spec.agents[index]
    if not record:
        raise UserError(f"{agent} did not act in any recorded step: its files could not be proven")
    alone = build_agent_policy(policy, index)
    labels = read_labels(metadata, agent, policy.spec.obs_size(index), alone.heads.size)
    contract = make_contract(alone, agent, origin, needed_tolerance(alone, record, agent), labels)
    for name in formats:
        get_format(name).write(alone, contract, folder)
    write_record(folder, record)
    write_contract(folder, contract)
    verdicts = verify(folder, allow_code=True)
    for verdict in verdicts:
        if verdict.problem:
            raise UserError(f"{agent} cannot be exported, since a file does not answer as the saved actor: {verdict}")
    return verdicts


def folder_names(agents: Sequence[str]) -> list[str]:
    """Return a folder's name for each agent: its own where it is plain, else with _ in place of other characters."""
    names: list[str] = []
    for agent in agents:
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", agent)[:100].lstrip(".-") or "agent"
        while name.lower() in map(str.lower, names):
            name += "_"
        names.append(name)
    return names
