"""A C policy as a program: `policy.c` and `replay.c`, compiled, and played on recorded steps."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mappo.core.obs_inputs import ObsInput
from mappo.core.spec import ActionHeads
from mappo.deploy.agent_policy import IS_FIRST, MASK, MEMORY, NOISE
from mappo.deploy.c.reading import field_names
from mappo.deploy.c.source import C_TYPES
from mappo.errors import UserError

FLAGS = ("-std=c99", "-O2")
_DTYPES = {"uint8_t": np.uint8, "float": np.float32, "int32_t": np.int32}


def find_compiler() -> list[str]:
    """Return the command of the C compiler, from CC in the environment or by its usual names; empty without."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    return [name for name in ("cc", "gcc", "clang") if shutil.which(name)][:1]


@dataclass(frozen=True)
class CProgram:
    """A compiled policy.

    Args:
        file: the program.
        inputs: the arrays of an observation.
        heads: the agent's action heads.
        memory_size: H; 0 without a memory.
    """

    file: Path
    inputs: Sequence[ObsInput]
    heads: ActionHeads
    memory_size: int

    def play(
        self, inputs: Mapping[str, np.ndarray], *, sampled: bool = False, keeps_memory: bool = False
    ) -> dict[str, np.ndarray]:
        """Act on steps, one after the other.

        Args:
            inputs: by name, as `AgentPolicy.forward` reads them, each with a leading axis of steps.
            sampled: sample actions by the noise.
            keeps_memory: carry the memory from step to step; else each step brings its own.

        Returns:
            `action`, `logits`, `mean`, `log_std` and `memory_out` by name, like `AgentPolicy.forward`.

        Raises:
            UserError: the program failed.
        """
        steps = self._steps(inputs, keeps_memory)
        command = [str(self.file), *["sampled"] * sampled]
        run = subprocess.run(command, input=steps.tobytes(), capture_output=True, check=False)
        if run.returncode or len(run.stdout) != len(steps) * self._result_type.itemsize:
            raise UserError(f"the program of policy.c ended with code {run.returncode}: {run.stderr.decode()[-2000:]}")
        return self._outputs(np.frombuffer(run.stdout, self._result_type))

    @property
    def _action_type(self) -> np.dtype[Any]:
        choices = len(self.heads.categorical)
        fields = [("choice", np.int32, (choices,))] * bool(choices)
        return _struct([*fields, *[("number", np.float32, (self.heads.continuous,))] * bool(self.heads.continuous)])

    @property
    def _result_type(self) -> np.dtype[Any]:
        """Type of a `result` in replay.c."""
        size = sum(self.heads.categorical) + 2 * self.heads.continuous
        memory = [("memory", np.float32, (self.memory_size,))] * bool(self.memory_size)
        return _struct([("action", self._action_type), ("outputs", np.float32, (size,)), *memory])

    @property
    def _step_type(self) -> np.dtype[Any]:
        """Type of a `step` in replay.c."""
        sizes = [len(array.choices) if array.choices else array.size for array in self.inputs]
        dtypes = [_DTYPES[C_TYPES[array.dtype]] for array in self.inputs]
        fields = list(zip(field_names(self.inputs), dtypes, [(max(size, 1),) for size in sizes], strict=True))
        memory = [("has_memory", np.int32), ("memory", np.float32, (self.memory_size,))] * bool(self.memory_size)
        mask = [("mask", np.uint8, (sum(self.heads.categorical),))] * bool(self.heads.categorical)
        noise = ("noise", np.float32, (self.heads.size,))
        return _struct([("observation", _struct(fields)), noise, ("is_first", np.int32), *memory, *mask])

    def _steps(self, inputs: Mapping[str, np.ndarray], keeps_memory: bool) -> np.ndarray:
        """Return the inputs as structs."""
        steps = np.zeros(len(inputs[NOISE]), self._step_type)
        for array, name in zip(self.inputs, field_names(self.inputs), strict=True):
            if array.size:
                steps["observation"][name] = inputs[array.name].reshape(len(steps), -1)
        steps["noise"] = inputs[NOISE]
        if self.heads.categorical:
            steps["mask"] = inputs[MASK]
        if self.memory_size:
            steps["is_first"] = inputs[IS_FIRST]
            steps["has_memory"] = not keeps_memory
            steps["memory"] = inputs[MEMORY]
        return steps

    def _outputs(self, results: np.ndarray) -> dict[str, np.ndarray]:
        """Return results by name."""
        choices = sum(self.heads.categorical)
        count = self.heads.continuous
        outputs = {"action": self._actions(results["action"])}
        parts = np.split(results["outputs"], [choices, choices + count], -1)
        outputs |= {name: x for name, x in zip(("logits", "mean", "log_std"), parts, strict=True) if x.shape[-1]}
        return outputs | ({"memory_out": results["memory"]} if self.memory_size else {})

    def _actions(self, actions: np.ndarray) -> np.ndarray:
        """Return actions in the agent's own space."""
        columns = [actions[name] for name in actions.dtype.names or ()]
        joined = columns[0].astype(np.int64) if not self.heads.continuous else np.concatenate(columns, -1)
        shape: Any = self.heads.shape
        return joined.reshape(len(actions), *shape)


def compile_program(
    folder: Path,
    out: Path,
    inputs: Sequence[ObsInput],
    heads: ActionHeads,
    memory_size: int,
    flags: Sequence[str] = FLAGS,
) -> CProgram:
    """Compile the `policy.c` of a folder with `replay.c`.

    Args:
        folder: holds `policy.c` and `policy.h`.
        out: the program.
        inputs: as in `CProgram`.
        heads: as in `CProgram`.
        memory_size: as in `CProgram`.
        flags: of the compiler.

    Raises:
        UserError: there is no compiler, or it fails.
    """
    compiler = find_compiler()
    if not compiler:
        raise UserError("no C compiler found: install gcc or clang, or name yours in the environment variable CC")
    sources = [str(folder / "policy.c"), str(Path(__file__).with_name("replay.c"))]
    command = [*compiler, *flags, f"-I{folder}", *sources, "-lm", "-o", str(out)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"the C compiler {compiler[0]} does not start: {error}") from None
    if run.returncode:
        raise UserError(f"{folder / 'policy.c'} does not compile ({shlex.join(command)}):\n{run.stderr[-4000:]}")
    return CProgram(out, inputs, heads, memory_size)


def _struct(fields: Sequence[Any]) -> np.dtype[Any]:
    """Return a type with the layout of a C struct."""
    return np.dtype(list(fields), align=True)
