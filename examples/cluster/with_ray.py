"""A run of several processes as actors of a Ray cluster. Needs `pip install ray`.

Run it with `python examples/cluster/with_ray.py`.
"""

import os
import socket

import ray

import mappo
from mappo.errors import LostError


@ray.remote(num_cpus=1, max_restarts=0)
class Process:
    """A process of the run."""

    def address(self):
        """Return this machine's address and a free port."""
        with socket.socket() as found:
            found.bind(("", 0))
            return ray.util.get_node_ip_address(), found.getsockname()[1]

    def train(self, env, settings, rank, size, address, port):
        """Join the other processes and train; return the steps done."""
        place = {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": address, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        return mappo.train(env, mappo.Config.from_dict(settings)).step


def train_once(env, settings, size):
    """Train in `size` processes; return the steps done by each."""
    processes = [Process.remote() for _ in range(size)]
    try:
        address, port = ray.get(processes[0].address.remote())
        return ray.get([p.train.remote(env, settings, k, size, address, port) for k, p in enumerate(processes)])
    finally:
        for process in processes:
            ray.kill(process)


def train(env, settings, size=2, restarts=3):
    """Train like `train_once`. A run that lost a process goes on from its last checkpoint."""
    while True:
        try:
            return train_once(env, settings, size)
        except (ray.exceptions.RayActorError, LostError):  # a process died, or another noticed it first
            if not restarts:
                raise
            restarts -= 1


if __name__ == "__main__":
    ray.init()
    settings = mappo.preset("spread").to_dict()
    settings["run"] |= {"dir": os.path.abspath("runs/by-ray"), "exists": "resume"}
    print(train("spread", settings))
