"""Install a peer into an environment of its own: `python benchmarks/peers/install.py NAME --place FOLDER`.

Makes FOLDER/NAME with pinned versions, and FOLDER/NAME/source if the peer's scripts are in a repository. Needs pip, and
git for the repositories. Nothing is installed into mappo's environment.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TORCH = ("torch==2.13.0",)  # first and alone: later packages then keep this build


@dataclass(frozen=True)
class Repository:
    """Folders of a repository at a commit."""

    address: str
    commit: str
    folders: tuple[str, ...]


@dataclass(frozen=True)
class Peer:
    """Requirements of a peer.

    Args:
        installs: arguments of the calls of pip, in order.
        repository: the repository of its scripts.
        build: a program for the peer's Python, run at the end.
    """

    installs: tuple[tuple[str, ...], ...]
    repository: Repository | None = None
    build: str = ""


# The package's compiled part needs CUDA. Its C++ source is part of the package: compile it for the CPU alone.
PUFFERLIB_BUILD = """
import importlib.util, pathlib, tempfile, torch.utils.cpp_extension as builder
package = pathlib.Path(importlib.util.find_spec("pufferlib").submodule_search_locations[0])
with tempfile.TemporaryDirectory() as folder:
    source = str(package / "extensions" / "pufferlib.cpp")
    builder.load("_C", [source], extra_cflags=["-O3"], build_directory=folder, is_python_module=False)
    for old in package.glob("_C.*.so"):
        old.write_bytes((pathlib.Path(folder) / "_C.so").read_bytes())
"""


PEERS = {
    "jax": Peer((("jax==0.10.2", "jaxlib==0.10.2", "mpe2==1.1.1"),)),
    "jaxmarl": Peer(
        (
            ("jax==0.10.2", "jaxlib==0.10.2", "jaxmarl==0.2.0", "flax==0.12.8", "optax==0.2.8"),
            ("distrax==0.1.9", "omegaconf==2.3.1", "hydra-core==1.3.8"),
        ),
        Repository(
            "https://github.com/FLAIROx/JaxMARL",
            "c793d095618c6d3edfb5632802348f57b70a4b94",
            ("baselines/MAPPO", "baselines/IPPO", "jaxmarl"),
        ),
    ),
    "torchrl": Peer((TORCH, (*TORCH, "torchrl==0.14.1", "tensordict==0.14.3", "vmas==1.5.2"))),
    "benchmarl": Peer((TORCH, (*TORCH, "benchmarl==1.5.2", "torchrl==0.11.1", "tensordict==0.11.0", "vmas==1.5.2"))),
    "onpolicy": Peer(
        (TORCH, ("gymnasium==1.4.0", "numpy==2.4.6", "absl-py==2.5.1")),
        Repository(
            "https://github.com/marlbenchmark/on-policy", "de66d7a4b23fac2513f56f96f73b3f5cb96695ac", ("onpolicy",)
        ),
    ),
    "pufferlib": Peer(
        (
            TORCH,
            # Its package asks for a torch with CUDA; its PPO runs on this build as well.
            ("--no-deps", "pufferlib-core==3.0.23"),
            ("gymnasium==1.4.0", "psutil==7.2.2", "nvidia-ml-py==13.615.71", "rich==15.0.0"),
            ("rich-argparse==1.8.0", "setuptools==84.2.1", "pyro-ppl==1.9.2", "ninja", "cloudpickle"),
        ),
        build=PUFFERLIB_BUILD,
    ),
}


def install(name: str, place: Path, source: str | None) -> None:
    """Make the environment of a peer.

    Args:
        name: a key of `PEERS`.
        place: folder of all environments.
        source: address or folder of the peer's repository; None for its usual address.

    Raises:
        SystemExit: the folder exists.
        subprocess.CalledProcessError: pip or git failed.
    """
    folder, peer = place / name, PEERS[name]
    if folder.exists():
        raise SystemExit(f"install.py: {folder} exists; remove it to install {name} again")
    run([sys.executable, "-m", "venv", str(folder)])
    for packages in peer.installs:
        run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages])
    if peer.repository:
        checkout = ["git", "-C", str(folder / "source")]
        run(["git", "clone", "--quiet", "--no-checkout", source or peer.repository.address, str(folder / "source")])
        run([*checkout, "checkout", "--quiet", peer.repository.commit, "--", *peer.repository.folders])
    if peer.build:
        bin_folder = folder / "bin"
        run([str(bin_folder / "python"), "-c", peer.build], {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"})


def run(command: Sequence[str], changes: Mapping[str, str] | None = None) -> None:
    """Run a program to its end, with changes to the environment variables, and show it."""
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True, env={**os.environ, **(changes or {})})


def main() -> None:
    """Read the command line, and install the named peers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    parser.add_argument("--place", type=Path, required=True, help="folder of the environments")
    parser.add_argument("--source", help="another address or folder of the peer's repository, for a single NAME")
    args = parser.parse_args()
    if args.source and len(args.names) > 1:
        parser.error("--source is for a single NAME")
    for name in args.names:
        install(name, args.place, args.source)


if __name__ == "__main__":
    main()
