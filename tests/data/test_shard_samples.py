from pathlib import Path

import pytest

from fastrnn.data.shard_samples import shard_classes, shard_paths


@pytest.fixture
def touch(tmp_path, monkeypatch):
    """Makes empty files in the working folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    return make


def names(paths):
    return [path.as_posix() for path in shard_paths(paths)]


def test_braces_count_with_the_digits_that_are_written(touch):
    touch(*(f"t-{number:03d}.tar" for number in range(8, 13)), "u-8.tar", "u-9.tar", "u-10.tar")
    assert names("t-{008..012}.tar") == [f"t-{number:03d}.tar" for number in range(8, 13)]
    assert names("u-{8..10}.tar") == ["u-8.tar", "u-9.tar", "u-10.tar"]


def test_braces_choose_and_several_combine(touch):
    touch("a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar")
    assert names("{b,a}-{0..1}.tar") == ["b-0.tar", "b-1.tar", "a-0.tar", "a-1.tar"]
    assert names("{b,a}-*.tar") == ["b-0.tar", "b-1.tar", "a-0.tar", "a-1.tar"]


def test_stars_and_folders_give_what_exists_sorted(touch):
    touch("d/2.tar", "d/10.tar", "d/labels.json", "d/1.npz")
    assert names("d/*.tar") == ["d/10.tar", "d/2.tar"]
    assert names(Path("d")) == ["d/1.npz", "d/10.tar", "d/2.tar"]


def test_name_that_exists_is_no_pattern(touch):
    touch("a[1].tar", "a1.tar", "{x}.tar", "{1..2}.tar")
    assert names("a[1].tar") == ["a[1].tar"]
    assert names("{x}.tar") == ["{x}.tar"]
    assert names("{1..2}.tar") == ["{1..2}.tar"]


def test_several_keep_their_order(touch):
    touch("b.tar", "a.npz", "c.TAR")
    assert names(["c.TAR", "b.tar", Path("a.npz")]) == ["c.TAR", "b.tar", "a.npz"]


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ([], ValueError, "paths is empty; give at least one shard"),
        ("x.tar", FileNotFoundError, r"shard x\.tar does not exist"),
        ("a-{0..3}.tar", FileNotFoundError, r"shard a-1\.tar does not exist"),
        ("z-*.tar", FileNotFoundError, r"no shard matches z-\*\.tar"),
        ("a-{3..0}.tar", ValueError, r"\{3\.\.0\} counts down"),
        ("a.zip", ValueError, r"a\.zip is no shard: its name must end in \.tar or \.npz"),
        (["a-0.tar", "*.tar"], ValueError, r"shard a-0\.tar is given twice"),
        ("empty", ValueError, "there are no shards .* in folder empty"),
    ],
)
def test_what_stands_for_no_shards_is_an_error(touch, paths, error, message):
    touch("a-0.tar", "a.zip", "empty/readme.txt")
    with pytest.raises(error, match=message):
        shard_paths(paths)


class TestClasses:
    def test_given_labels_come_first_then_the_file_then_what_is_found(self, tmp_path):
        shard = tmp_path / "a.tar"
        assert shard_classes(None, shard, ["b", None, "a"]).names == ("a", "b")
        assert shard_classes(None, shard, [2, None]).names == ("0", "1", "2")
        assert shard_classes(None, shard, [None]).names == ()
        (tmp_path / "labels.json").write_text('["b", "a", "c"]')
        assert shard_classes(None, shard, ["b", "a"]).names == ("b", "a", "c")
        assert shard_classes(["a", "b"], shard, ["b"]).names == ("a", "b")

    def test_names_and_numbers_have_their_targets(self, tmp_path):
        classes = shard_classes(["b", "a"], tmp_path, [])
        assert [classes.target(label) for label in ("a", "b", 0, 1, None)] == [1, 0, 0, 1, -1]
        with pytest.raises(ValueError, match="label 'c' is not among 'b', 'a'"):
            classes.target("c")
        with pytest.raises(ValueError, match="class number 2 is too large for 2 labels"):
            classes.target(2)

    def test_names_and_numbers_mixed_need_labels(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"names \(such as 'a'\) and .* \(such as 3\); give lab"
        ):
            shard_classes(None, tmp_path / "a.tar", ["a", 3, "b", 4])

    @pytest.mark.parametrize(
        "content", ['{"a": 1}', "[1, 2]", '["a", "a"]', "[", "\xff", "[" * 10**5]
    )
    def test_damaged_list_of_labels_is_named(self, tmp_path, content):
        (tmp_path / "labels.json").write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=r"labels\.json is not a JSON list of class names"):
            shard_classes(None, tmp_path / "a.tar", ["a"])
