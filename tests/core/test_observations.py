"""Parts of observations, and the bounds that integers are divided by."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from mappo.core.observations import ObsPart, is_channels_first, parts_of
from mappo.core.spec import ActionHeads, Spec


def box(low: Any, high: Any, shape: tuple[int, ...], dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


def mixed(*high: float, dtype: Any = np.int64) -> spaces.Box:
    return spaces.Box(np.zeros(len(high), dtype), np.array(high, dtype), (len(high),), dtype)


@pytest.mark.parametrize(
    ("space", "shape", "scale"),
    [
        (box(0, 255, (128,)), (128,), (255,)),
        (box(0, 5, (7,)), (7,), (5,)),
        (box(0, 1, (3,)), (3,), (1,)),
        (box(0, 0, (3,)), (3,), (1,)),
        (box(-128, 127, (4,), np.int8), (4,), (128,)),
        (box(-9, 3, (4,), np.int32), (4,), (9,)),
        (box(0, 10**6, (4,), np.int64), (4,), (10**6,)),
        (box(0, 40_000, (4,), np.uint16), (4,), (40_000,)),
        (box(0, 65_535, (4,), np.uint16), (4,), (1,)),
        (box(0, 2**31 - 1, (4,), np.int32), (4,), (1,)),
        (box(-np.inf, np.inf, (4,), np.int64), (4,), (1,)),
        (box(0, 255, (4,), np.float32), (4,), (1,)),
        (box(0, 1, (4,), np.bool_), (4,), (1,)),
        (mixed(255, 3, 0), (3,), (255, 3, 1)),
        (mixed(7, np.iinfo(np.int64).max), (2,), (7, 1)),
        (box(0, 5, (5, 7), np.int64), (35,), (5,)),
        (box(0, 5, (5, 7)), (35,), (5,)),
        (box(0, 255, (84, 84)), (84, 84), (255,)),
        (box(0, 255, (84, 84), np.float32), (84 * 84,), (1,)),
        (box(0, 255, (4, 9, 8, 3)), (864,), (255,)),
        (box(0, 255, (9, 8, 3)), (9, 8, 3), (255,)),
        (box(0, 5, (3, 9, 8)), (3, 9, 8), (5,)),
        (box(0, np.array([[[9, 4, 2]]]).repeat(7, 0).repeat(7, 1), (7, 7, 3)), (7, 7, 3), (9,)),
        (box(0, 1, (9, 8, 3), np.float32), (9, 8, 3), (1,)),
        (spaces.Discrete(5), (5,), (1,)),
        (spaces.MultiDiscrete([200, 3]), (203,), (1,)),
        (spaces.MultiBinary((2, 3)), (6,), (1,)),
    ],
)
def test_integers_have_a_scale_where_they_have_bounds(space: Any, shape: tuple[int, ...], scale: tuple[float, ...]):
    (part,) = parts_of(space)
    assert part.shape == shape
    assert part.scale == pytest.approx(scale)
    assert part.is_image == (len(shape) > 1)


def test_parts_lie_where_gymnasium_puts_them():
    space = spaces.Dict({"view": box(0, 255, (4, 5, 3)), "at": box(-1, 1, (2,), np.float32)})
    nested = spaces.Tuple([space, spaces.Discrete(3), box(0, 9, (2,))])
    parts = parts_of(nested)
    value = nested.sample()
    flat = spaces.flatten(nested, value)
    start = 0
    found: list[Any] = []
    for part in parts:
        found.append(flat[start : start + part.size].reshape(part.shape))
        start += part.size
    assert start == flat.size
    assert [part.shape for part in parts] == [(2,), (4, 5, 3), (3,), (2,)]
    assert np.array_equal(found[1], value[0]["view"])
    assert np.array_equal(found[3], value[2])
    assert [part.scale for part in parts] == [(1.0,), (255.0,), (1.0,), (9.0,)]


@pytest.mark.parametrize(
    ("shape", "auto"), [((3, 8, 9), True), ((8, 9, 3), False), ((5, 7, 6), True), ((12, 12, 13), False)]
)
def test_the_axis_of_channels_is_guessed_unless_it_is_said(shape: tuple[int, ...], auto: bool):
    assert is_channels_first(shape) == is_channels_first(shape, "auto") == auto
    assert is_channels_first(shape, "first")
    assert not is_channels_first(shape, "last")


def test_agents_with_other_parts_are_of_another_kind_and_bounds_make_no_kind():
    space = box(0, 255, (48,))
    heads = (ActionHeads((2,)),) * 3
    image = (ObsPart((4, 4, 3), (255.0,)),)
    spec = Spec(("a", "b", "c"), (space,) * 3, heads, obs_parts=(image, parts_of(space), (ObsPart((48,), (5.0,)),)))
    assert spec.groups == (0, 1, 1)
    assert spec.obs_shape == (48,)


def test_specs_with_other_parts_do_not_fit_but_runs_that_know_one_part_do():
    def spec(*shapes: tuple[int, ...]) -> Spec:
        return Spec(("a",), (box(0, 255, (8,)),), (ActionHeads((2,)),), obs_parts=(tuple(map(ObsPart, shapes)),))

    new = spec((2, 2), (4,))
    assert new.mismatch(spec((4,), (2, 2))) == "a observes parts of ((2, 2), (4,)) there and ((4,), (2, 2)) here"
    for other in (new, spec((8,))):
        assert new.mismatch(other) == other.mismatch(new) == ""
