"""Number formats of returns."""

import math

from hypothesis import given, strategies as st

from mappo.evaluation.number_format import format_return, return_format

RETURNS = st.floats(-1e9, 1e9)


@given(RETURNS)
def test_the_text_is_the_return_to_half_a_percent_and_never_minus_zero(value: float):
    text = format_return(value)
    assert not text.startswith("-") or float(text.replace(",", "")) < 0
    error = abs(float(text.replace(",", "")) - value)
    assert error <= max(0.0005, abs(value) / 200) + 1e-9


@given(st.lists(RETURNS, min_size=1, max_size=4))
def test_the_largest_of_a_table_sets_the_decimals_of_all(values: list[float]):
    number = return_format(*values)
    assert number == return_format(*(-x for x in reversed(values))) == return_format(max(values, key=abs))
    assert len({len(format(x, number).partition(".")[2]) for x in values}) == 1


def test_returns_of_each_size():
    assert [format_return(x) for x in (0.0, -0.0004, 9.5, -38.85, 1234.5, math.nan, math.inf)] == [
        *("0.000", "0.000", "9.500", "-38.9", "1,234", "n/a", "n/a")
    ]
    assert format(-0.2, f"+{return_format(1000)}") == "+0"
