"""What TensorBoard's own readers find in the event files of a run."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from mappo.deploy.load import load_actor
from mappo.envs import make
from mappo.evaluation.episodes import play_episodes
from mappo.evaluation.options import SELECT_SEED
from mappo.training.train import train
from training_runs import CONFIG, stop_after, within


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that was stopped and resumed, and whose last update brought an evaluation."""
    config = within(CONFIG, tmp_path_factory.mktemp("tensorboard") / "run", eval_episodes=3)
    train("spread", config, callback=stop_after(3))
    return train("spread", config, resume=True)


@pytest.fixture(scope="module")
def events(run: Any) -> Any:
    return EventAccumulator(str(run.path / "tensorboard"), {"images": 0, "tensors": 0, "scalars": 0}).Reload()


def test_the_settings_are_a_table(events: Any):
    table = events.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert "\n| environment | spread |\n" in table
    assert "\n| ppo.actor_lr | 0.005 |\n" in table
    assert events.SummaryMetadata("config").plugin_data.plugin_name == "text"


def test_the_settings_are_hyperparameters_of_the_run_itself(run: Any):
    """Its own plugin finds a single session, under the name of the folder of events."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(run.path.parent))
    multiplexer.Reload()
    provider = MultiplexerDataProvider(multiplexer, str(run.path.parent))
    context = backend_context.Context(TBContext(data_provider=provider))
    metadata = context.hparams_metadata(RequestContext(), "")
    experiment = context.experiment_from_metadata(RequestContext(), "", True, metadata, [])
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=9, allowed_statuses=[0, 1, 2, 3])
    request.col_params.add(metric=api_pb2.MetricName(tag="eval/return"))
    handler = list_session_groups.Handler(RequestContext(), context, "", request)
    (group,) = handler.run().session_groups
    assert [session.name for session in group.sessions] == ["run/tensorboard"]
    assert group.hparams["ppo.actor_lr"].number_value == 5e-3
    assert group.hparams["environment"].string_value == "spread"
    assert group.hparams["network.obs_norm"].bool_value is False
    assert group.metric_values[0].value == pytest.approx(run.metrics["eval_return"][-1])
    assert "ppo.gamma" in [info.name for info in experiment.hparam_infos]


def test_an_evaluation_has_its_spread_and_the_return_of_each_agent(run: Any, events: Any):
    played = play_episodes(make("spread", 3), load_actor(run.path), range(SELECT_SEED, SELECT_SEED + 3))
    assert events.Scalars("eval/return")[-1].value == pytest.approx(played.team_returns.mean())
    assert events.Scalars("eval/return_std")[-1].value == pytest.approx(np.std(played.team_returns, ddof=1))
    for agent in range(3):
        found = events.Scalars(f"eval/return_agent_{agent}")[-1]
        assert (found.step, found.value) == (480, pytest.approx(played.returns[:, agent].mean()))


def test_the_curve_is_shown_after_the_last_step(run: Any, events: Any):
    first, last = events.Images("curve")
    assert (first.step, last.step) == (240, 480)
    assert last.encoded_image_string == Path(run.path / "curve.png").read_bytes()
    assert (last.width, last.height) == struct.unpack(">2I", last.encoded_image_string[16:24])
    assert last.width == 1200


def test_what_the_critic_computes_stands_together(events: Any):
    critic = {tag for tag in events.Tags()["scalars"] if tag.startswith("critic/")}
    names = ("value", "value_loss", "explained_variance", "grad_norm_critic", "critic_lr")
    assert critic == {f"critic/{name}" for name in names}
