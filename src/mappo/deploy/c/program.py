"""A C policy as a program: `policy.c` and `replay.c`, compiled, and played on recorded steps. Loads no torch."""

import math
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mappo.core.spec import ActionHeads
from mappo.deploy.c.interface import C_TYPES, field_names
from mappo.deploy.child import Child, find_command
from mappo.errors import UserError

FLAGS = ("-std=c99", "-O2")
COMPILE_SECONDS = 300
_DTYPES = {"uint8_t": np.uint8, "float": np.float32, "int32_t": np.int32}
Arrays = Mapping[str, np.ndarray]


def find_compiler() -> list[str]:
    """Return the command of the C compiler, from CC in the environment or by its usual names; empty without."""
    return find_command("CC", "cc", "gcc", "clang")


class CProgram:
    """A compiled policy in a process of its own, which ends with this object.

    Args:
        file: the program.
        contract: of the policy; see `make_contract`.
        source: the `policy.c` of the program, for messages.
    """

    def __init__(self, file: Path, contract: Mapping[str, Any], source: Path) -> None:
        self.contract = contract
        sizes = [str(kind.itemsize) for kind in (self.step_type, self.result_type)]
        self._child = Child([file, *sizes], f"the program of {source}")

    def play(self, inputs: Arrays, *, keeps_memory: bool = False) -> dict[str, np.ndarray]:
        """Act on steps, one after the other.

        Args:
            inputs: by name, as `AgentPolicy.forward` reads them, each with a leading axis of steps.
            keeps_memory: carry the memory from step to step; else each step brings its own.

        Returns:
            The outputs of `AgentPolicy.forward`.

        Raises:
            UserError: the program failed, or did not answer in time.
        """
        results = np.empty(len(inputs["noise"]), self.result_type)
        with self._child.time_limit():
            for k, step in enumerate(self._steps(inputs, keeps_memory)):
                reply = self._child.ask(step.tobytes(), results.itemsize)
                results[k] = np.frombuffer(reply, results.dtype)[0]
        return self._read_results(results)

    @property
    def _heads(self) -> ActionHeads:
        action = self.contract["action"]
        sizes = tuple(head["options"] for head in action["heads"] if head["kind"] == "choice")
        count = len(action["heads"]) - len(sizes)
        return ActionHeads(sizes, (0.0,) * count, (1.0,) * count, shape=tuple(action["shape"]))

    @property
    def _arrays(self) -> list[Mapping[str, Any]]:
        """Facts about the arrays of the observation."""
        return [x for x in self.contract["inputs"] if x["name"].split(".")[0] == "obs"]

    @property
    def result_type(self) -> np.dtype[Any]:
        """Type of a `result` in replay.c."""
        heads = self._heads
        choices = [("choice", np.int32, (len(heads.categorical),))] * bool(heads.categorical)
        action = _struct([*choices, *[("number", np.float32, (heads.continuous,))] * bool(heads.continuous)])
        size = sum(heads.categorical) + 2 * heads.continuous
        memory = [("memory", np.float32, (self.contract["memory"],))] * bool(self.contract["memory"])
        return _struct([("action", action), ("sampled_action", action), ("outputs", np.float32, (size,)), *memory])

    @property
    def step_type(self) -> np.dtype[Any]:
        """Type of a `step` in replay.c."""
        heads = self._heads
        facts = self._arrays
        fields = [
            (name, _DTYPES[C_TYPES[fact["dtype"]]], (max(math.prod(fact["shape"][1:]), 1),))
            for name, fact in zip(field_names([fact["name"] for fact in facts]), facts, strict=True)
        ]
        memory_size = self.contract["memory"]
        memory = [("has_memory", np.int32), ("memory", np.float32, (memory_size,))] * bool(memory_size)
        mask = [("mask", np.uint8, (sum(heads.categorical),))] * bool(heads.categorical)
        noise = ("noise", np.float32, (heads.size,))
        return _struct([("observation", _struct(fields)), noise, ("is_first", np.int32), *memory, *mask])

    def _steps(self, inputs: Arrays, keeps_memory: bool) -> np.ndarray:
        """Return the inputs as structs."""
        steps = np.zeros(len(inputs["noise"]), self.step_type)
        names = [fact["name"] for fact in self._arrays]
        for name, field in zip(names, field_names(names), strict=True):
            if inputs[name].size:
                steps["observation"][field] = inputs[name].reshape(len(steps), -1)
        for name in ("noise", "mask", "is_first", "memory"):
            if name in inputs:
                steps[name] = inputs[name]
        if self.contract["memory"]:
            steps["has_memory"] = not keeps_memory
        return steps

    def _read_results(self, results: np.ndarray) -> dict[str, np.ndarray]:
        """Return results by name."""
        heads = self._heads
        choices = sum(heads.categorical)
        outputs = {name: self._to_space(results[name]) for name in ("action", "sampled_action")}
        parts = np.split(results["outputs"], [choices, choices + heads.continuous], -1)
        outputs |= {name: x for name, x in zip(("logits", "mean", "log_std"), parts, strict=True) if x.shape[-1]}
        return outputs | ({"memory_out": results["memory"]} if self.contract["memory"] else {})

    def _to_space(self, actions: np.ndarray) -> np.ndarray:
        """Return actions of the agent's own space."""
        columns = [actions[name] for name in actions.dtype.names or ()]
        joined = np.concatenate(columns, -1) if self._heads.continuous else columns[0].astype(np.int64)
        return joined.reshape(len(actions), *self.contract["action"]["shape"])


def compile_program(folder: Path, out: Path, contract: Mapping[str, Any], flags: Sequence[str] = FLAGS) -> CProgram:
    """Compile the `policy.c` of a folder with `replay.c`.

    Args:
        folder: holds `policy.c` and `policy.h`.
        out: the program.
        contract: of the policy.
        flags: of the compiler.

    Raises:
        UserError: there is no compiler, or it fails or takes too long.
    """
    compiler = find_compiler()
    if not compiler:
        raise UserError("no C compiler found: install gcc or clang, or name yours in the environment variable CC")
    sources = [str(folder / "policy.c"), str(Path(__file__).with_name("replay.c"))]
    command = [*compiler, *flags, f"-I{folder}", *sources, "-lm", "-o", str(out)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_SECONDS)
    except OSError as error:
        raise UserError(f"the C compiler {compiler[0]} does not start: {error}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{folder / 'policy.c'} did not compile within {COMPILE_SECONDS} s") from None
    if run.returncode:
        raise UserError(f"{folder / 'policy.c'} does not compile ({shlex.join(command)}):\n{run.stderr[-4000:]}")
    return CProgram(out, contract, folder / "policy.c")


def _struct(fields: Sequence[Any]) -> np.dtype[Any]:
    """Return a type with the layout of a C struct."""
    return np.dtype(list(fields), align=True)
