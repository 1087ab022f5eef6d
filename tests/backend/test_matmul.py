"""Large products by the other library: the same numbers, and only where they pay and may differ in their last bits."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.func import vmap  # pyright: ignore[reportUnknownVariableType]
from torch.testing import assert_close

from mappo.algorithms.mappo import MAPPO
from mappo.backend import matmul as products
from mappo.backend.matmul import MIN_WORK, add_linear, affine, linear, weight_gradient
from mappo.experiments import workload
from mappo.networks.layers import Linear
from mappo.networks.tutorial import CTDEActorCriticNetwork
from mappo.system import hardware as machine

ROWS = MIN_WORK // (64 * 64)  # of 64 numbers each


@pytest.fixture(params=[True, False], ids=["convolved", "as ever"])
def convolves(request: Any, monkeypatch: Any) -> bool:
    """Whether this is a processor on which convolutions are faster."""
    monkeypatch.setattr(products, "best_library", lambda: "onednn" if request.param else "mkl")
    return request.param


@pytest.fixture
def convolutions(monkeypatch: Any) -> list[torch.Size]:
    """The shapes of what has been convolved."""
    seen: list[torch.Size] = []
    own: Any = torch.conv2d

    def spy(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x.shape)
        return own(x, *rest)

    monkeypatch.setattr(torch, "conv2d", spy)
    return seen


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def with_gradients(function: Callable[..., Tensor], *given: Tensor) -> list[Tensor]:
    answer = function(*given)
    return [answer.detach(), *torch.autograd.grad(answer.square().sum(), given)]


@pytest.mark.parametrize(
    ("lead", "size", "out"),
    [((ROWS,), 64, 64), ((ROWS // 4, 4), 64, 64), ((25, 128, 3), 18, 64), ((ROWS - 16,), 64, 64), ((512,), 256, 192)],
)
def test_it_is_the_product_with_its_gradients(
    lead: tuple[int, ...], size: int, out: int, convolves: bool, convolutions: list[torch.Size]
):
    given = drawn((*lead, size), (out, size), (out,))
    result = with_gradients(affine, *given)
    large = given[0][..., 0].numel() * size * out >= MIN_WORK
    assert bool(convolutions) == (convolves and large)
    expected = with_gradients(torch.nn.functional.linear, *[x.detach().double().requires_grad_() for x in given])
    for x, y in zip(result, expected, strict=True):
        assert x.shape == y.shape
        assert_close(x, y.float(), rtol=1e-4, atol=1e-4 * float(y.abs().max()))


def test_groups_have_a_matrix_each(convolves: bool, convolutions: list[torch.Size]):
    layer, (x,) = Linear(3, 64, 64), drawn((3, ROWS // 2, 2, 64))
    result = with_gradients(lambda x, *_: layer(x), x, layer.weight, layer.bias)
    assert len(convolutions) == (3 if convolves else 0)
    layer.double()
    expected = with_gradients(
        lambda x, w, b: torch.einsum("gmni,goi->gmno", x, w) + b[:, None, None],
        *[p.detach().requires_grad_() for p in (x.double(), layer.weight, layer.bias)],
    )
    for a, b in zip(result, expected, strict=True):
        assert_close(a, b.float(), rtol=1e-4, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("kind", ["small", "acting", "float64", "bf16", "of many seeds at once", "a prime number"])
def test_what_does_not_pay_or_must_not_differ_is_multiplied_as_ever(
    kind: str, convolutions: list[torch.Size], monkeypatch: Any
):
    monkeypatch.setattr(products, "best_library", lambda: "onednn")
    rows = {"small": ROWS - 16, "a prime number": 2503}.get(kind, ROWS)
    dtype = torch.float64 if kind == "float64" else torch.float32
    given = drawn((rows, 64), (64, 64), (64,), dtype=dtype)
    where = products.acting() if kind == "acting" else nullcontext()
    with where, torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
        if kind == "of many seeds at once":
            result = vmap(affine)(*[x.unsqueeze(0) for x in given])[0]
        else:
            result = affine(*given)
        expected = torch.nn.functional.linear(*given)
    assert not convolutions
    assert_close(result, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "capability", "library"),
    [
        (("AuthenticAMD", 26), "AVX512", "onednn"),  # Zen 5
        (("AuthenticAMD", 25), "AVX512", "mkl"),  # Zen 4
        (("AuthenticAMD", 26), "AVX2", "mkl"),
        (("GenuineIntel", 26), "AVX512", "mkl"),
        (None, "AVX512", "mkl"),
    ],
)
def test_a_table_of_processors_decides(family: Any, capability: str, library: str, monkeypatch: Any):
    monkeypatch.setattr(machine, "cpu_family", lambda: family)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    for backend in (torch.backends.mkl, torch.backends.mkldnn):
        monkeypatch.setattr(backend, "is_available", lambda: True)
    assert products.best_library.__wrapped__() == library
    for backend in (torch.backends.mkl, torch.backends.mkldnn):
        with monkeypatch.context() as without:
            without.setattr(backend, "is_available", lambda: False)
            assert products.best_library.__wrapped__() == "mkl"


def test_a_library_can_be_chosen_for_a_run(convolutions: list[torch.Size], convolves: bool):
    given = drawn((ROWS, 64), (64, 64), (64,))
    with products.use_library("mkl" if convolves else "onednn"):
        affine(*given)
        assert bool(convolutions) != convolves
    convolutions.clear()
    affine(*given)
    assert bool(convolutions) == convolves


@pytest.mark.parametrize("groups", [(), (3,)])
@pytest.mark.parametrize("rows", [5, 512, 2048])  # few by MKL, many by oneDNN; most have a kernel's gradient
def test_products_without_a_gradient(groups: tuple[int, ...], rows: int, convolves: bool):
    x, weight, bias, y_grad = [
        t.detach() for t in drawn((*groups, rows, 96), (*groups, 48, 96), (*groups, 48), (*groups, rows, 48))
    ]
    product = x.double() @ weight.double().mT
    expected = {
        "linear": (linear(x, weight, bias), product + bias.double().unsqueeze(-2)),
        "without bias": (linear(x, weight), product),
        "transposed": (linear(y_grad, weight.mT), y_grad.double() @ weight.double()),
        "added": (add_linear(y_grad.clone(), x, weight), y_grad.double() + product),
        "weights": (weight_gradient(y_grad, x), y_grad.double().mT @ x.double()),
    }
    for result, exact in expected.values():
        assert result.shape == exact.shape
        assert_close(result, exact.float(), rtol=1e-5, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("convolves", [True], indirect=True)
def test_products_without_a_gradient_are_of_the_library(convolves: bool, monkeypatch: Any):
    calls: list[int] = []
    monkeypatch.setattr(products, "_fused_linear", lambda *args: calls.append(1) or torch.zeros(1, 1))
    x, weight = torch.zeros(512, 96), torch.zeros(48, 96)
    linear(x, weight)
    weight_gradient(torch.zeros(512, 48), x)
    assert len(calls) == 2
    linear(x[:5], weight)
    linear(x.double(), weight.double())
    with products.acting():
        linear(x, weight)
    assert_close(weight_gradient(torch.ones(2048, 48), torch.ones(2048, 96)), torch.full((48, 96), 2048.0))
    assert len(calls) == 2  # a kernel's gradient copies no rows
    monkeypatch.setattr(products, "_fused_linear", None)  # another version of torch
    assert linear(x, weight).shape == (512, 48)
    assert len(calls) == 2


def test_the_family_of_the_processor_is_read(monkeypatch: Any, tmp_path: Path):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "Path", lambda _: file)
    assert machine.cpu_family() is None
    core = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel name\t: AMD: EPYC\n\n"
    file.write_text(core + core)
    assert machine.cpu_family() == ("AuthenticAMD", 26)
    file.write_text("Processor : ARMv8\nBogoMIPS : 48\n")
    assert machine.cpu_family() is None


def test_training_is_the_same_but_for_rounding(convolutions: list[torch.Size], monkeypatch: Any):
    config = workload.reference("full")
    config = replace(config, ppo=replace(config.ppo, epochs=2))
    states: list[Any] = []
    for library in ("mkl", "onednn"):
        monkeypatch.setattr(products, "best_library", lambda library=library: library)
        training = workload.Workload(config)
        training.update()
        assert bool(convolutions) == (library == "onednn")
        states.append(training.agent.network.state_dict())  # pyright: ignore
    assert_close(*states, rtol=1e-3, atol=1e-4)


def test_nothing_is_read_where_there_is_nothing():
    network = CTDEActorCriticNetwork(2, 0, 4, 3)
    assert network(torch.zeros(5, 2, 0), torch.zeros(5, 2, 4)).logit.shape == (5, 2, 3)
    assert network(torch.zeros(0, 2, 0), torch.zeros(0, 2, 4)).logit.shape == (0, 2, 3)


# Laws 4 and 13, where networks are wide enough for the libraries to differ


def wide(num_envs: int) -> tuple[workload.Workload, MAPPO]:
    config = workload.reference("plain", num_envs)
    training = workload.Workload(replace(config, network=replace(config.network, hidden=(256, 256), actor_gain=1.0)))
    return training, cast(MAPPO, training.agent)


def test_a_rollout_is_read_again_with_the_same_numbers(convolutions: list[torch.Size], monkeypatch: Any):
    monkeypatch.setattr(products, "best_library", lambda: "onednn")
    training, agent = wide(32)
    batch, _, _ = agent.prepare(training.collector.collect()[0])
    assert convolutions
    value = agent.network.critic(batch.critic_obs)[0].squeeze(-1)
    assert torch.equal(value.detach(), batch.value)
    numbers, _ = agent.network.actor(batch.obs)
    log_prob, _ = agent.policy.distribution.log_prob(numbers, batch.action, None)
    assert_close(log_prob, batch.log_prob, rtol=0, atol=1e-5)


def test_what_a_policy_answers_does_not_depend_on_how_many_ask(monkeypatch: Any):
    monkeypatch.setattr(products, "best_library", lambda: "onednn")
    training, agent = wide(256)
    step, noise = training.collector.steps[0], torch.rand(256, 3, 1)
    together = agent.act(step, noise=noise)[1]
    apart = [agent.act(step.slice_envs(part), noise=noise[part])[1] for part in (slice(0, 16), slice(16, 256))]
    assert torch.equal(torch.cat(apart), together)
