"""`policy.onnx`: a policy for onnxruntime and other runtimes of ONNX."""

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mappo.deploy.formats import Arrays, Runner, UnavailableError
from mappo.errors import UserError
from mappo.system.packages import install_command

if TYPE_CHECKING:
    from mappo.deploy.agent_policy import AgentPolicy

FILES = ("policy.onnx",)
RUNS_CODE = False
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18  # the lowest that torch's exporter writes without conversion: older runtimes read it
MAX_BYTES = 2**31 - 1  # of an ONNX file with its weights inside


def write(policy: "AgentPolicy", contract: Mapping[str, Any], folder: Path) -> None:
    """Write `policy.onnx`; see `Format`."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--to onnx needs the packages {', '.join(missing)}: {install_command('export')}")
    import torch

    from mappo.deploy.tracing import trace

    size = sum(x.numel() * x.element_size() for x in policy.state_dict().values())
    if size > MAX_BYTES:
        raise UserError(f"the policy has {size:,} bytes, more than an ONNX file can hold: use --to pt2")
    names = [[x["name"] for x in contract[key]] for key in ("inputs", "outputs")]
    program = trace(policy)
    with _quiet():
        model = torch.onnx.export(
            program,
            dynamo=True,
            input_names=names[0],
            output_names=names[1],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        if model is None:
            raise UserError("torch.onnx.export returned no model")
        proto = model.model_proto
    _strip(proto)
    (folder / FILES[0]).write_bytes(proto.SerializeToString(deterministic=True))


def open(contract: Mapping[str, Any], folder: Path) -> Runner:
    """Return the file in use by onnxruntime, on a single thread; see `Format`."""
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        raise UnavailableError(f"onnxruntime is not installed: {install_command('export')}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(folder / FILES[0]), options, providers=["CPUExecutionProvider"])
    names = [x["name"] for x in contract["outputs"]]

    def run(inputs: Arrays) -> dict[str, Any]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run


def _strip(proto: Any) -> None:
    """Remove the exporter's notes: they hold lines of source and paths of this machine."""
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the exporter from notes about packages that no policy needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
