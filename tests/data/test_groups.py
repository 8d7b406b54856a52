import pytest

from fastrnn.data import (
    StripCache,
    StripConcat,
    StripDigits,
    StripFiles,
    StripShards,
    StripSubset,
    StripTruncate,
    write_shards,
)
from fastrnn.data.groups import groups_by_path, strip_path


@pytest.fixture
def strips(save):
    names = ("bob/1.png", "ann/1.png", "bob/2.png", "cay/1.png")
    return StripFiles([save(name) for name in names])


def test_groups_are_numbered_by_name(strips):
    assert groups_by_path(strips, r"/(\w+)/\d\.png").tolist() == [1, 0, 1, 2]


def test_views_know_the_files_behind_them(strips):
    view = StripCache(StripTruncate(StripSubset(strips, [3, 0]), 10))
    both = StripConcat([strips, view])
    assert groups_by_path(both, r"/(\w+)/\d\.png").tolist() == [1, 0, 1, 2, 2, 1]


def test_a_strip_in_a_shard_has_its_key(tmp_path):
    shards = write_shards(StripDigits("test", size=3), tmp_path / "shards", max_strips=2)
    strips = StripShards(shards)
    assert strip_path(strips, 2) == shards[1] / "00000002"
    assert groups_by_path(strips, r"strips-(\d+)\.tar").tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"pattern '\(' is no regular expression: missing \)"),
        ("bob", r"pattern 'bob' has no parenthesis"),
        ("(bob)", r"pattern '\(bob\)' finds no group in .*ann/1\.png"),
        ("bob|(ann)|(cay)", r"finds no group in .*bob/1\.png"),
    ],
)
def test_wrong_pattern_is_an_error(strips, pattern, message):
    with pytest.raises(ValueError, match=message):
        groups_by_path(strips, pattern)


def test_strips_without_files_have_no_groups():
    with pytest.raises(ValueError, match="are not in files"):
        groups_by_path(StripDigits("test", size=2), "(a)")
