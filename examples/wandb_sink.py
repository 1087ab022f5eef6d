"""Send the metrics to another service: pass a `callback` to `mappo.train`. Needs `pip install wandb`.

Run it with `python examples/wandb_sink.py`.
"""

import wandb

import mappo

sink = wandb.init(project="mappo", mode="offline", config=mappo.preset("spread").to_dict())


def log(update):
    """Called after each policy update."""
    sink.log({**update.metrics, **update.timing}, step=update.step)


mappo.train("spread", callback=log)
sink.finish()
