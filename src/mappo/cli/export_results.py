"""The command `mappo export`: exports or verifies, and prints the verdicts."""

from pathlib import Path

from mappo.cli.commands import Export
from mappo.deploy.contract import CONTRACT
from mappo.deploy.verify import Verdict, verify
from mappo.errors import UserError
from mappo.system.shutdown import CloseLimit
from mappo.system.stdio import env_output_to_stderr, say


def export_and_show(command: Export, close_limit: CloseLimit) -> bool:
    """Export the agents of a run, or verify a folder; return True if no file is wrong.

    Raises:
        UserError: see `export_run` and `verify`.
    """
    if (command.run is None) == (command.verify is None):
        raise UserError(
            "name a run, as in: mappo export RUN; or a folder of exported files: mappo export --verify FOLDER"
        )
    if command.verify is not None:
        verdicts = {folder: verify(folder, command.allow_code) for folder in _agent_folders(command.verify)}
    else:
        verdicts = _export(command, close_limit)
    for folder, of_agent in verdicts.items():
        say(str(folder))
        for verdict in of_agent:
            say(f"  {verdict}")
    return not any(verdict.problem for of_agent in verdicts.values() for verdict in of_agent)


def _export(command: Export, close_limit: CloseLimit) -> dict[Path, list[Verdict]]:
    from mappo.evaluation.export_run import export_run

    if command.run is None:
        return {}
    with env_output_to_stderr():
        return export_run(
            command.run,
            command.agent,
            command.to,
            command.out,
            command.checkpoint,
            allow_code=command.allow_code,
            close_limit=close_limit,
        )


def _agent_folders(folder: Path) -> list[Path]:
    """Return the folders of agents: the folder itself, or those in it."""
    if (folder / CONTRACT).exists():
        return [folder]
    found = sorted(file.parent for file in folder.glob(f"*/{CONTRACT}") if not file.parent.name.startswith("."))
    if not found:
        raise UserError(f"{folder} holds no exported policy: no {CONTRACT} in it, nor in a folder of it")
    return found
