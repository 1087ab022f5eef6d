"""The tutorial runs, says what it did, and its names suffice for a program of one's own."""

import re
import runpy

import pytest
import torch

from paths import ROOT

TUTORIAL = ROOT / "examples" / "tutorial.py"
NUMBER = r"-?\d+\.\d{4}"
LINES = (
    f"total_loss: {NUMBER}, policy_loss: {NUMBER}, value_loss: {NUMBER}, entropy_loss: {NUMBER}",
    f"approximate_kl_divergence: {NUMBER}, clip_fraction: {NUMBER}",
    "mappo_training_operator is ok",
)
VARIANTS = pytest.mark.parametrize("team_state", [False, True])
METHODS = pytest.mark.parametrize("method", ["gae", "n-step", "discounted"])


@pytest.fixture(autouse=True)
def own_random_numbers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        yield


@pytest.fixture
def tutorial():
    return runpy.run_path(str(TUTORIAL))


def assert_three_lines(text):
    lines = text.splitlines()
    assert len(lines) == len(LINES)
    for line, pattern in zip(lines, LINES, strict=True):
        assert re.fullmatch(pattern, line), line


def test_the_script_prints_three_lines_and_the_same_each_time(capsys):
    runpy.run_path(str(TUTORIAL), run_name="__main__")
    first = capsys.readouterr().out
    assert_three_lines(first)
    runpy.run_path(str(TUTORIAL), run_name="__main__")
    assert capsys.readouterr().out == first


def test_importing_the_tutorial_prints_nothing(tutorial, capsys):
    assert capsys.readouterr().out == ""


@VARIANTS
@METHODS
def test_each_variant_reports(tutorial, capsys, team_state, method):
    tutorial["mappo_training_operator"](team_state, method)
    assert_three_lines(capsys.readouterr().out)


@VARIANTS
@METHODS
def test_the_step_moves_every_parameter_and_lowers_the_loss(tutorial, team_state, method):
    model = tutorial["CTDEActorCriticNetwork"](5, 10, 25, 6).to(tutorial["DEVICE"])
    before = [p.detach().clone() for p in model.parameters()]
    batch = tutorial["generated_batch"](team_state)
    inputs = {name: x.clone() for name, x in batch.items()}
    # At rate 0 the weights stay, so that the second step reports the loss behind the first.
    first = tutorial["training_step"](model, torch.optim.Adam(model.parameters(), 1e-5), batch, method)
    for old, new in zip(before, model.parameters(), strict=True):
        assert not torch.equal(old, new)
    after = tutorial["training_step"](model, torch.optim.Adam(model.parameters(), 0.0), batch, method)
    assert after["policy_loss"] - 0.001 * after["entropy_loss"] < (first["policy_loss"] - 0.001 * first["entropy_loss"])
    assert after["value_loss"] < first["value_loss"]
    for name, x in inputs.items():
        assert torch.equal(batch[name], x), f"{name} was changed in place"


def test_the_team_variant_fits_the_sum_over_agents(tutorial):
    """With a critic of zero and nothing ahead, the target is the team's reward and the loss its square."""
    model = tutorial["CTDEActorCriticNetwork"](5, 10, 25, 6).to(tutorial["DEVICE"])
    with torch.no_grad():
        for p in model.critic.parameters():
            p.zero_()
    batch = tutorial["generated_batch"](True)
    batch["done"] = torch.ones_like(batch["done"])
    metrics = tutorial["training_step"](model, torch.optim.Adam(model.parameters()), batch)
    torch.testing.assert_close(metrics["value_loss"].detach(), batch["reward"].sum(-1).square().mean())


@pytest.mark.parametrize("method", ["gae", "n-step", "discounted"])
def test_each_target_looks_past_a_cut_but_not_past_the_end(tutorial, method):
    """The value behind the last step counts unless the episode is done."""
    losses = []
    for done, shift in ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        torch.manual_seed(5)
        model = tutorial["CTDEActorCriticNetwork"](5, 10, 25, 6).to(tutorial["DEVICE"])
        batch = tutorial["generated_batch"](False)
        batch["done"][-1] = done
        batch["global_state"][-1] += shift
        metrics = tutorial["training_step"](model, torch.optim.Adam(model.parameters()), batch, method)
        losses.append(metrics["value_loss"].item())
    assert losses[0] != losses[1]
    assert losses[2] == losses[3]


def test_a_program_written_against_the_names_alone_runs(capsys):
    """Nothing but the imports is this library's: the rest is how such programs are usually written."""
    from mappo import CTDEActorCriticNetwork, gae, ppo_policy_data, ppo_policy_error

    batch_size, agent_num, local_size, agent_global_size, action_size = 4, 5, 10, 25, 6
    model = CTDEActorCriticNetwork(agent_num, local_size, agent_global_size, action_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    start = [p.detach().clone() for p in model.parameters()]

    local_state = torch.randn(batch_size, agent_num, local_size)
    agent_specific_global_state = torch.randn(batch_size, agent_num, agent_global_size)
    logit_old = torch.randn(batch_size, agent_num, action_size)
    value_old = torch.randn(batch_size, agent_num)
    next_value = torch.randn(batch_size, agent_num)
    done = torch.zeros(batch_size)
    done[-1] = 1.0
    traj_flag = done.clone()
    action = torch.randint(0, action_size, (batch_size, agent_num))
    reward = torch.rand(batch_size, agent_num)
    next_value_before = next_value.clone()

    output = model(local_state, agent_specific_global_state)
    assert output.logit.shape == (batch_size, agent_num, action_size)
    assert output.value.shape == (batch_size, agent_num, 1)
    assert output["logit"] is output.logit

    value = output.value.squeeze(-1)
    adv = gae((value_old, next_value, reward, done, traj_flag), 0.99, 0.95)
    assert adv.shape == (batch_size, agent_num)
    assert torch.equal(next_value, next_value_before)
    return_ = value_old + adv

    data = ppo_policy_data(output.logit, logit_old, action, adv, None)
    loss, info = ppo_policy_error(data)
    value_loss = torch.nn.functional.mse_loss(value, return_)
    total_loss = loss.policy_loss + 0.5 * value_loss - 0.001 * loss.entropy_loss
    optimizer.zero_grad()
    total_loss.backward()
    optimizer.step()
    print(
        "total_loss: {:.4f}, policy_loss: {:.4f}, value_loss: {:.4f}, entropy_loss: {:.4f}".format(  # noqa: UP032
            total_loss, loss.policy_loss, value_loss, loss.entropy_loss
        )
    )
    print("approximate_kl_divergence: {:.4f}, clip_fraction: {:.4f}".format(info.approx_kl, info.clipfrac))  # noqa: UP032
    print("mappo_training_operator is ok")

    assert_three_lines(capsys.readouterr().out)
    for old, new in zip(start, model.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_a_state_shared_by_the_team_has_one_value_that_does_not_broadcast():
    from mappo import CTDEActorCriticNetwork, ppo_value_data, ppo_value_error

    output = CTDEActorCriticNetwork(5, 10, 25, 6)(torch.randn(4, 5, 10), torch.randn(4, 25))
    assert output.value.shape == (4, 1)
    with pytest.raises(ValueError, match="shape"):
        ppo_value_error(ppo_value_data(output.value, output.value.detach(), torch.randn(4, 5)))
