"""`policy.pt2`: a policy as a program of torch.export, for torch without mappo."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mappo.deploy.formats import Arrays, Runner, UnavailableError

if TYPE_CHECKING:
    from mappo.deploy.agent_policy import AgentPolicy

FILES = ("policy.pt2",)
RUNS_CODE = True  # torch.export.load may read pickles


def write(policy: "AgentPolicy", contract: Mapping[str, Any], folder: Path) -> None:
    """Write `policy.pt2`; see `Format`."""
    import torch

    from mappo.deploy.tracing import trace

    torch.export.save(trace(policy), str(folder / FILES[0]))


def open(contract: Mapping[str, Any], folder: Path) -> Runner:
    """Return the file in use by torch; see `Format`."""
    try:
        import torch
    except ImportError:
        raise UnavailableError("torch is not installed") from None
    module: Any = torch.export.load(str(folder / FILES[0])).module()

    @torch.no_grad()
    def run(inputs: Arrays) -> dict[str, Any]:
        outputs = module({name: torch.as_tensor(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in outputs.items()}

    return run
