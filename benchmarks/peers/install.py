"""Install a peer into an environment of its own: `python benchmarks/peers/install.py NAME --place FOLDER`.

Makes FOLDER/NAME with pinned versions, and FOLDER/NAME/source if the peer's scripts are in a repository. Needs pip, and
git for the repositories. Nothing is installed into mappo's environment.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
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
    """What a peer needs: calls of pip in this order, each with its arguments, and a repository."""

    installs: tuple[tuple[str, ...], ...]
    repository: Repository | None = None


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
            # Its package asks for a torch with CUDA; its PPO runs on this build as well, with advantages in torch.
            ("--no-deps", "pufferlib-core==3.0.23"),
            ("gymnasium==1.4.0", "psutil==7.2.2", "nvidia-ml-py==13.615.71", "rich==15.0.0"),
            ("rich-argparse==1.8.0", "setuptools==84.2.1", "pyro-ppl==1.9.2"),
        )
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


def run(command: Sequence[str]) -> None:
    """Run a program to its end, and show it."""
    print(" ".join(command), flush=True)
    subprocess.run(command, check=True)


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
