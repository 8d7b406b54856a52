import pytest

from fastrnn.data.download import cache_folder, download


def accept_only_good(path):
    if path.read_bytes() != b"good":
        raise ValueError(f"{path} is bad")


@pytest.fixture
def mirrors(tmp_path):
    """URLs of a missing, a bad and a good copy."""
    (tmp_path / "bad").write_bytes(b"bad!")
    (tmp_path / "good").write_bytes(b"good")
    return [(tmp_path / name).as_uri() for name in ("missing", "bad", "good")]


def test_first_good_copy_is_moved_into_place(tmp_path, mirrors):
    target = tmp_path / "cache" / "deep" / "file"
    download(mirrors, target, accept_only_good)
    assert target.read_bytes() == b"good"
    assert list(target.parent.iterdir()) == [target]


def test_failure_names_every_mirror_and_leaves_nothing(tmp_path, mirrors):
    target = tmp_path / "cache" / "file"
    with pytest.raises(ConnectionError, match=r"could not download file; tried .*") as caught:
        download(mirrors[:2], target, accept_only_good)
    assert f"{mirrors[0]} (" in str(caught.value)
    assert f"{mirrors[1]} (the copy is bad)" in str(caught.value)
    assert not list(target.parent.iterdir())


def test_interruption_leaves_nothing(tmp_path, mirrors):
    def interrupt(path):
        raise KeyboardInterrupt

    target = tmp_path / "cache" / "file"
    with pytest.raises(KeyboardInterrupt):
        download(mirrors[2:], target, interrupt)
    assert not list(target.parent.iterdir())


def test_cache_folder_follows_the_convention(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fastrnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fastrnn"
