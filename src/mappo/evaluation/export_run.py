"""Export of a run's policies: episodes are recorded, files are written, and each file answers the record."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mappo.deploy.export import export_agents
from mappo.deploy.formats import FormatName
from mappo.deploy.load import read_actor
from mappo.deploy.record import STEPS, record_steps
from mappo.deploy.verify import Verdict
from mappo.errors import UserError
from mappo.evaluation.options import SCORE_SEED, EvaluateOptions
from mappo.evaluation.score_run import check_options, check_same_spec, open_env
from mappo.runs.directory import read_run, saved_run_id
from mappo.system.shutdown import CloseLimit


def export_run(
    path: Path,
    agent: str = "all",
    to: Sequence[FormatName] = ("onnx",),
    out: Path | None = None,
    checkpoint: str = "last",
    *,
    allow_code: bool = False,
    env: Any = None,
    close_limit: CloseLimit = nullcontext,
) -> dict[Path, list[Verdict]]:
    """Export the policy of an agent, or of each agent, to files that run without mappo.

    Args:
        path: run directory, of one seed.
        agent: an agent's name, or `all`.
        to: kinds of files; see `FormatName`.
        out: folder of the agents' folders; by default `export` in the run directory.
        checkpoint: `last`, `best`, or the step of a kept checkpoint.
        allow_code: import the code named in the run's `config.json`.
        env: environment to record in; needed only if the run's environment has no name.
        close_limit: see `closing`.

    Returns:
        The verdict on each file, by the agent's folder.

    Raises:
        UserError: run, agent or package is missing, a folder exists, or a policy cannot be exported.
    """
    name, config, spec = read_run(path)
    options = EvaluateOptions(episodes=1, workers=0, allow_code=allow_code)
    check_options(name, env, options, "export")
    actor, found = read_actor(path, checkpoint, allow_code=allow_code)
    if agent != "all" and agent not in spec.agents:
        raise UserError(f"there is no agent {agent!r}; there are: {', '.join(spec.agents)}")
    origin = {
        "env": name,
        "run": saved_run_id(path),
        "checkpoint": checkpoint,
        "step": found.state["step"],
        "precision": config.network.precision,
    }
    env_options = spec.fit_options(config.env.env_options)
    with open_env(name, env, env_options, options, close_limit) as (_, batched):
        check_same_spec(path, spec, batched)
        if batched.num_envs != 1:
            raise UserError("give a function that makes one environment, run.export(env=make_env)")
        records = record_steps(batched, actor.policy, STEPS, SCORE_SEED)
        metadata: Mapping[str, Any] = getattr(batched, "metadata", {})
    agents = spec.agents if agent == "all" else (agent,)
    folder = path / "export" if out is None else out
    return export_agents(actor.policy, agents, to, folder, origin, records, metadata)
