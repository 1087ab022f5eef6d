"""A training loop of your own, over `Collector.collect` and `MAPPO.update`, without log files and checkpoints.

Run it with `python examples/custom_loop.py`.
"""

import torch

import mappo


def main(updates: int = 60) -> float:
    """Train spread for `updates` rollouts; return the last mean return (sum over agents)."""
    torch.set_num_threads(1)
    config = mappo.preset("spread")
    env = mappo.make("spread", config.env.num_envs)
    agent = mappo.MAPPO(env.spec, config, seed=1)

    # A `Collector` fills a `Rollout` of (T, E, ...) tensors from any `Environment`. A collector of
    # your own calls `agent.act(step, memory)`, and `env.step` with the result of `agent.env_action`; see
    # src/mappo/rollouts/collector.py.
    noise = torch.Generator().manual_seed(2)
    collector = mappo.Collector(env, agent, config.ppo.rollout_length, env.reset(seed=3), noise)

    episode_return = float("nan")
    for i in range(updates):
        rollout, episodes = collector.collect()
        metrics = agent.update(rollout)
        episode_return = float(episodes["return_sum"])
        if i % 10 == 9:
            print(
                f"step {(i + 1) * config.steps_per_update:7,}  return {episode_return:6.1f}  "
                f"kl {metrics['approx_kl']:.4f}  entropy {metrics['entropy']:.2f}"
            )

    # The policy alone acts greedily by default, on an agent's own observation.
    actor = agent.actor()
    step = env.reset(seed=4)
    action, _ = actor(step.obs[0, 0])
    print(f"the first agent of the first environment would take action {action.tolist()}")
    return episode_return


if __name__ == "__main__":
    main()
