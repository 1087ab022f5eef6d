"""One training step of MAPPO, from a batch to new weights, each formula beside the line that computes it.

Several agents act at once, each on its own observation; a critic judges them during training and may see
everything: centralised training, decentralised execution (CTDE). MAPPO is PPO for such a team
(arXiv:2103.01955). Run it with `python examples/tutorial.py`; the data are generated.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mappo import (
    CTDEActorCriticNetwork,
    discounted_return,
    gae,
    gae_data,
    n_step_return,
    ppo_policy_data,
    ppo_policy_error,
    ppo_value_data,
    ppo_value_error,
)

B, A, O, S, N = 4, 5, 10, 25, 6  # time steps, agents, sizes of observation and state, actions  # noqa: E741
ENTROPY_WEIGHT, VALUE_WEIGHT = 0.001, 0.5
GAMMA, LAMBDA = 0.99, 0.95
LEARNING_RATE = 0.001
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def generated_batch(team_state: bool) -> dict[str, Tensor]:
    """What an earlier policy might have recorded. The batch axis is time: B = 4 steps of one episode.

    There are B + 1 states, s_0 to s_4: the last action led somewhere too, and the returns need its value.
    """
    logit_old = 0.5 * torch.randn(B, A, N)
    batch = {
        "local_state": torch.randn(B, A, O),
        # The critic's input: (B, S), one state shared by the team, or (B, A, S), the state as each agent
        # sees it, for example with its own observation and identity appended.
        "global_state": torch.randn((B + 1, S) if team_state else (B + 1, A, S)),
        # The policy of that time, and what it drew. PPO weighs each action by how its probability changes.
        "logit_old": logit_old,
        "action": torch.distributions.Categorical(logits=logit_old).sample(),
        "reward": torch.randn(B, A),
        # done: the episode ended by itself and nothing follows; V(s_{t+1}) counts as 0.
        # traj_flag: the recording stops here; V(s_{t+1}) counts, but nothing flows back from beyond.
        # Here the episode goes on after four steps, unseen. The batch's end would cut all the same; a batch
        # that joins the pieces of many episodes, as in training, has such flags in the middle.
        "done": torch.tensor([0.0, 0.0, 0.0, 0.0]),
        "traj_flag": torch.tensor([0.0, 0.0, 0.0, 1.0]),
    }
    return {name: x.to(DEVICE) for name, x in batch.items()}


def training_step(
    model: CTDEActorCriticNetwork,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    method: str = "gae",
) -> dict[str, Tensor]:
    """One gradient step. `method` picks the critic's target: `gae`, `n-step` or `discounted`."""
    local_state, global_state, reward = batch["local_state"], batch["global_state"], batch["reward"]
    team_state = global_state.ndim == 2

    # Returns and advantages come from the critic before the gradient step, without gradient.
    with torch.no_grad():
        value = model.critic(global_state)[0].squeeze(-1)  # (B + 1, A), or (B + 1) of the team's states
        if team_state:
            # One value for the team predicts the team's return, the sum over agents. (B, 1) against the
            # rewards (B, A) would broadcast silently and fit every agent's return by one number.
            value, reward = value.unsqueeze(-1), reward.sum(-1, keepdim=True)  # (B + 1, 1), (B, 1)
        value_old, next_value = value[:-1], value[1:]  # V(s_t) and V(s_{t+1}): one step apart, never the same
        done, traj_flag = batch["done"], batch["traj_flag"]
        # delta_t = r_t + gamma * (1 - done_t) * V(s_{t+1}) - V(s_t)
        # A_t = delta_t + gamma * lambda * (1 - cut_t) * A_{t+1}, where cut_t = done_t or traj_flag_t
        adv = gae(gae_data(value_old, next_value, reward, done, traj_flag), GAMMA, LAMBDA)
        if method == "discounted":  # G_t = r_t + gamma * G_{t+1}; behind a cut stands V(s_{t+1})
            return_ = discounted_return(next_value, reward, done, traj_flag, GAMMA)
        elif method == "n-step":  # G_t = r_t + gamma * r_{t+1} + gamma^2 * V(s_{t+2})
            return_ = n_step_return(next_value, reward, done, traj_flag, GAMMA, n=2)
        else:  # between the two: n-step returns of every n, the weight falling by lambda with each step
            return_ = adv + value_old
        adv = adv.expand(B, A)  # the team's advantage is that of each of its agents

    # Actor and critic on s_0 .. s_3. The actor sees an agent's own observation, the critic the state.
    output = model(local_state, global_state[:-1])

    # r = pi_new(a|s) / pi_old(a|s);  L_policy = -mean(min(r * A, clip(r, 1 - 0.2, 1 + 0.2) * A))
    # H = mean(-sum_a pi(a|s) log pi(a|s)), the entropy: how undecided the policy still is
    policy = ppo_policy_data(output.logit, batch["logit_old"], batch["action"], adv, None)
    loss, info = ppo_policy_error(policy, clip_ratio=0.2)

    # L_value = mean((V - G)^2). Times VALUE_WEIGHT it is `ppo_value_error` without its clipping, for that
    # takes e^2 / 2; and it refuses shapes that would broadcast.
    value_new = output.value if team_state else output.value.squeeze(-1)
    value_loss = F.mse_loss(value_new, return_)
    half = ppo_value_error(ppo_value_data(value_new, value_old, return_, None), clip_ratio=None)
    torch.testing.assert_close(VALUE_WEIGHT * value_loss, half)

    # The entropy is a bonus, so its sign is minus: a policy that becomes deterministic too early stops exploring.
    total_loss = loss.policy_loss + VALUE_WEIGHT * value_loss - ENTROPY_WEIGHT * loss.entropy_loss
    optimizer.zero_grad()
    total_loss.backward()
    optimizer.step()
    return {
        "total_loss": total_loss,
        "policy_loss": loss.policy_loss,
        "value_loss": value_loss,
        "entropy_loss": loss.entropy_loss,
        "approximate_kl_divergence": info.approx_kl,
        "clip_fraction": info.clipfrac,
    }


def mappo_training_operator(team_state: bool = False, method: str = "gae") -> None:
    """Build, train one step, and say how it went; `team_state` for one global state shared by all agents."""
    torch.manual_seed(0)
    model = CTDEActorCriticNetwork(A, O, S, N).to(DEVICE)
    # For weight decay put torch.optim.AdamW(..., weight_decay=0.01) here: it shrinks all weights by the same
    # share (arXiv:1711.05101). Adam's own `weight_decay` joins the gradient, which is then divided by its
    # running size, so that the weights with the largest gradients would decay least.
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    metrics = training_step(model, optimizer, generated_batch(team_state), method)
    text = [f"{name}: {metric:.4f}" for name, metric in metrics.items()]
    print(", ".join(text[:4]))
    print(", ".join(text[4:]))
    print("mappo_training_operator is ok")


if __name__ == "__main__":
    mappo_training_operator()
