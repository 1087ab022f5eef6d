"""Process that runs a package of AOTInductor: a fault of compiled code ends this process alone.

    python aoti_process.py PACKAGE INPUT...

INPUT are the names of the inputs in the package's order. A message is its length in 8 bytes, then safetensors of the
inputs; the answer is the same of the outputs. The script imports nothing of mappo.
"""

import sys

import torch
from safetensors.torch import load, save
from torch import Tensor


def main() -> None:
    """Answer the messages of the standard input."""
    torch.set_num_threads(1)
    package, *names = sys.argv[1:]
    run = torch._inductor.aoti_load_package(package)  # pyright: ignore[reportPrivateUsage]
    sys.stdout.buffer.write(b"ready")
    sys.stdout.buffer.flush()
    while head := sys.stdin.buffer.read(8):
        inputs = load(sys.stdin.buffer.read(int.from_bytes(head, "little")))
        outputs: dict[str, Tensor] = run({name: inputs[name] for name in names})
        reply = save({name: x.contiguous() for name, x in outputs.items()})
        sys.stdout.buffer.write(len(reply).to_bytes(8, "little") + reply)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
