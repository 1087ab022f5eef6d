import pytest

from mappo.core.slices import equal_slices


@pytest.mark.parametrize(("count", "parts"), [(12, 3), (5, 2), (1, 1), (2, 5), (0, 2), (128, 7)])
def test_equal_slices_cover_the_axis_once_in_order_and_differ_by_at_most_one(count: int, parts: int):
    slices = equal_slices(count, parts)
    assert len(slices) == parts
    assert [i for one in slices for i in range(count)[one]] == list(range(count))
    sizes = [one.stop - one.start for one in slices]
    assert max(sizes) - min(sizes) <= 1


def test_where_parts_divide_the_axis_each_has_the_same_size():
    assert equal_slices(6, 3) == (slice(0, 2), slice(2, 4), slice(4, 6))
