import pytest

from fastrnn.training.search_space import Choice, Range, SearchSpace, parse_setting


def test_a_grid_has_every_combination_once():
    grid = list(SearchSpace({"a": [1, 2], "b": ["x", "y", "z"], "c": [True]}).grid())
    assert len(grid) == 6
    assert {(cell["a"], cell["b"]) for cell in grid} == {(a, b) for a in (1, 2) for b in "xyz"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hidden-size=32", ("hidden_size", Choice((32,)))),
        ("dropout=0.1, 0.2", ("dropout", Choice((0.1, 0.2)))),
        ("bidirectional=true,False", ("bidirectional", Choice((True, False)))),
        ("pooling=max,mean+max", ("pooling", Choice(("max", "mean+max")))),
        ("conv_channels=(8,16), (32),7", ("conv_channels", Choice(((8, 16), (32,), 7)))),
        ("num_layers=1..3", ("num_layers", Range(1, 3))),
        ("learning_rate=1e-4..1e-2", ("learning_rate", Range(1e-4, 1e-2, log=True))),
    ],
)
def test_settings_as_they_are_written(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hidden_size", "'hidden_size' should be name=value,value"),
        ("=3", "should be name=value"),
        ("a=", "should be name=value"),
        ("a=x..3", "a range goes from a number to a number, not 'x'"),
        ("a=3..1", "must go up, but goes from 3 to 1"),
        ("a=1,1", "has a value twice"),
        ("a=(1,1),(1,1)", "has a value twice"),
        ("a=(1,2", "parentheses hold the parts of one value"),
        ("a=()", "parentheses hold the parts of one value"),
        ("a=(1,2)3", "parentheses hold the parts of one value"),
    ],
)
def test_settings_that_are_not(text, message):
    with pytest.raises(ValueError, match=message):
        parse_setting(text)


def test_a_grid_has_no_ranges():
    with pytest.raises(ValueError, match="lr is a range, from 1 to 2; a grid needs a list"):
        next(SearchSpace({"lr": Range(1, 2)}).grid())


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "the search space is empty"),
        ({"a": 3}, TypeError, "a is 3; it should be a Choice, a Range or a list"),
        ({"a": "xy"}, TypeError, "a is 'xy'"),
        ({"a": []}, ValueError, "a: a choice has no values"),
    ],
)
def test_spaces_that_are_none(settings, error, message):
    with pytest.raises(error, match=message):
        SearchSpace(settings)


def test_a_logarithmic_range_begins_above_zero():
    with pytest.raises(ValueError, match="must begin above 0, but begins at 0"):
        Range(0, 1, log=True)
