"""An exported agent in a process of its own: `python loop.py FOLDER/AGENT`.

It needs onnxruntime and numpy, nothing else. FOLDER is that of `mappo export --out FOLDER`.

Each line of the standard input is a step in JSON; the answer is a line with the action:

    {"observation": [0.5, -1.0], "is_first": true, "mask": [true, true, false]}    ->    2

`is_first` is true at the first step of an episode or of a life. `mask` may be left out, and so may `noise`: numbers,
uniform in [0, 1), that sample the action. Without noise the likeliest action is taken.
"""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnxruntime


class Agent:
    """An agent of `mappo export`: observation in, action of its own action space out. It keeps the memory.

    Args:
        folder: of the agent, with `policy.onnx` and `contract.json`.
    """

    def __init__(self, folder: str) -> None:
        self.contract = json.loads((Path(folder) / "contract.json").read_text())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a small network gains nothing by more threads
        self.session = onnxruntime.InferenceSession(str(Path(folder) / "policy.onnx"), options)
        self.outputs = [fact["name"] for fact in self.contract["outputs"]]
        self.memory = None

    def act(self, observation: Any, mask: Any = None, is_first: bool = False, noise: Any = None) -> Any:
        """Return the action for an observation as the environment returns it: an array, or a dict of arrays."""
        feeds = {
            fact["name"]: self._array(fact, observation, mask, is_first, noise) for fact in self.contract["inputs"]
        }
        results = dict(zip(self.outputs, self.session.run(self.outputs, feeds), strict=True))
        self.memory = results.get("memory_out")
        return results["action" if noise is None else "sampled_action"][0]

    def _array(self, fact: dict[str, Any], observation: Any, mask: Any, is_first: bool, noise: Any) -> np.ndarray:
        """Return an input of the network, with a batch axis of 1."""
        if "keys" in fact:  # an array of the observation, or of a nested dict
            value = observation
            for key in fact["keys"]:
                value = value[key]
        else:
            given = {"mask": mask, "is_first": is_first, "noise": noise, "memory": self.memory}
            defaults = {"mask": True, "noise": 0.5, "memory": 0.0}
            value = given[fact["name"]]
            value = defaults[fact["name"]] if value is None else value
        shape = fact["shape"][1:]
        array = np.empty([1, *shape], fact["dtype"])
        array[0] = np.reshape(value, shape) if np.ndim(value) else value
        return array


def fail(message: str) -> NoReturn:
    """End with a message and exit code 2."""
    print(message, file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Answer the steps of the standard input."""
    if len(sys.argv) != 2:
        fail("usage: python loop.py FOLDER/AGENT")
    try:
        agent = Agent(sys.argv[1])
    except Exception as error:  # of files, of JSON, or of onnxruntime
        fail(f"{sys.argv[1]} holds no agent of `mappo export --to onnx` ({error})")
    for number, line in enumerate(sys.stdin, 1):
        try:
            step = json.loads(line)
            action = agent.act(step["observation"], step.get("mask"), step.get("is_first", False), step.get("noise"))
        except (LookupError, TypeError, ValueError) as error:
            fail(f"line {number} is no step of this agent ({type(error).__name__}: {error})")
        print(json.dumps(action.tolist()), flush=True)


if __name__ == "__main__":
    main()
