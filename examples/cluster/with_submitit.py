"""A run of several processes by submitit, on SLURM or on this machine. Needs `pip install submitit`.

Run it with `python examples/cluster/with_submitit.py [slurm|local]`.
"""

import signal
import sys

import submitit

import mappo


class Training:
    """A run to be started on each of several tasks; near its time limit it is saved and put back into the queue."""

    def __init__(self, env, settings):
        self.env = env
        self.settings = settings

    def __call__(self):
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's handler would leave at once
        warnings = []
        signal.signal(signal.SIGUSR2, lambda number, frame: warnings.append(number))

        def stop():
            if warnings:
                raise mappo.StopTraining

        config = mappo.Config.from_dict(self.settings)
        run = mappo.train(self.env, config, stop=stop)
        if warnings and not run.finished:
            requeue(signal.SIGUSR2, None)
        return run.step

    def checkpoint(self):
        """Return the job to be put back into the queue: the same, because `run.exists` goes on with the run."""
        return submitit.helpers.DelayedSubmission(self)


def submit(cluster, folder, env, settings, tasks=2, **parameters):
    """Start a run of several tasks; return the job."""
    executor = submitit.AutoExecutor(folder, cluster=cluster)
    executor.update_parameters(tasks_per_node=tasks, timeout_min=240, **parameters)
    return executor.submit(Training(env, settings))


if __name__ == "__main__":
    settings = mappo.preset("spread").to_dict()
    settings["run"] |= {"name": "by-submitit", "exists": "resume"}
    job = submit(sys.argv[1] if len(sys.argv) > 1 else "slurm", "runs/submitit", "spread", settings)
    print(job.job_id, job.results())
