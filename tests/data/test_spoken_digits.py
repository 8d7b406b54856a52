import gzip
import io
import sys
import tarfile

import numpy as np
import pytest

from fastrnn.data import StripDecodeError, spoken_digits
from fastrnn.data.folds import group_k_fold
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.spoken_digits import SpokenDigits

wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")

NAMES = ("1_ann_0", "0_bob_10", "0_bob_9", "0_ann_1", "9_bob_0", "0_ann_0")


@pytest.fixture(scope="module")
def real(fsdd_root):
    return SpokenDigits(fsdd_root)


def wav(name):
    """Noise, of which every name has its own."""
    file = io.BytesIO()
    random = np.random.default_rng(list(name.encode()))
    wavfile.write(file, 8000, random.integers(-99, 99, 1600 + len(name) * 80, dtype=np.int16))
    return file.getvalue()


def archive(folder, files, prefix="recordings/"):
    """Writes recordings.tar.gz into a folder, with a text file beside the recordings."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "recordings.tar.gz", "w:gz") as tar:
        for name, content in {"README.md": b"x", **files}.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder


@pytest.fixture
def small(tmp_path):
    return archive(tmp_path / "small", {f"{name}.wav": wav(name) for name in NAMES})


def test_real_recordings_are_all_there(real):
    assert len(real) == 3000
    assert real.speakers == ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    assert real.labels == tuple("0123456789")
    counts = np.zeros((10, 6, 50), int)
    np.add.at(counts, (real.targets, real.groups, real.takes), 1)
    assert (counts == 1).all()
    assert (real.height, real.channels) == (40, 1)
    seconds = (real.lengths - 1) * 0.01 + 0.025
    assert 0.13 < seconds.min() < 0.15
    assert 2.2 < seconds.max() < 2.3
    assert np.median(real.lengths) == 40


def test_real_takes_resemble_those_of_the_same_digit(real):
    """The nearest of a speaker's ten mean strips says which digit a new take is, mostly."""
    thirds = np.stack(
        [
            [third.mean(axis=1) for third in np.array_split(strip[0].numpy(), 3, axis=1)]
            for strip, _ in real
        ]
    )
    right = []
    for speaker in range(6):
        known, new = ((real.groups == speaker) & rest for rest in (real.takes > 4, real.takes < 5))
        means = np.stack([thirds[known & (real.targets == digit)].mean(0) for digit in range(10)])
        distances = abs(thirds[new][:, None] - means).mean(axis=(2, 3))
        right += (distances.argmin(axis=1) == real.targets[new]).tolist()
    assert np.mean(right) > 0.75  # by chance 0.1


def test_folds_of_real_speakers_leave_one_out(real):
    for speaker, (train, test) in enumerate(group_k_fold(real.groups)):
        assert set(real.groups[test]) == {speaker}
        assert speaker not in real.groups[train]
        assert (len(train), len(test)) == (2500, 500)


def test_strips_are_sorted_by_digit_speaker_and_take(small):
    digits = SpokenDigits(small)
    assert digits.targets.tolist() == [0, 0, 0, 0, 1, 9]
    assert digits.speakers == ("ann", "bob")
    assert digits.groups.tolist() == [0, 0, 1, 1, 0, 1]
    assert digits.takes.tolist() == [0, 1, 9, 10, 0, 0]
    assert digits.groups.dtype == digits.takes.dtype == np.int64


def test_speakers_are_chosen_and_numbered_in_the_given_order(small):
    everyone, bob = SpokenDigits(small), SpokenDigits(small, speakers=["bob"])
    assert (bob.speakers, bob.groups.tolist()) == (("bob",), [0, 0, 0])
    assert bob.labels == tuple("0123456789")
    assert all(
        np.array_equal(bob[k][0], everyone[i][0])
        for k, i in enumerate(np.flatnonzero(everyone.groups == 1))
    )
    assert SpokenDigits(small, speakers=("bob", "ann")).groups.tolist() == [1, 1, 0, 0, 1, 0]


def test_configuration_reaches_the_strips(small):
    assert SpokenDigits(small, config=LogMel(n_mels=24))[0][0].shape[:2] == (1, 24)


def test_whole_repository_is_read_as_well_as_its_folder(tmp_path, small):
    files = {f"{name}.wav": wav(name) for name in NAMES}
    whole = SpokenDigits(archive(tmp_path / "whole", files, "fsdd-1.0.10/recordings/"))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(whole, SpokenDigits(small), strict=True))


def test_folder_comes_from_the_environment(monkeypatch, tmp_path, small):
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    small.rename(tmp_path / "fsdd")
    assert len(SpokenDigits(download=False)) == 6
    monkeypatch.delenv("FASTRNN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert spoken_digits.spoken_digits_folder() == tmp_path / "fastrnn" / "fsdd"


def test_missing_file_is_downloaded_once(monkeypatch, tmp_path, small):
    monkeypatch.setattr(spoken_digits, "MIRRORS", [(small / "recordings.tar.gz").as_uri()])
    monkeypatch.setattr(spoken_digits, "_COUNT", 6)
    root = tmp_path / "cache" / "fsdd"
    assert len(SpokenDigits(root)) == 6
    monkeypatch.setattr(spoken_digits, "MIRRORS", [])
    assert len(SpokenDigits(root)) == 6


def test_copy_with_too_few_recordings_is_not_kept(monkeypatch, tmp_path, small):
    monkeypatch.setattr(spoken_digits, "MIRRORS", [(small / "recordings.tar.gz").as_uri()])
    with pytest.raises(ConnectionError, match="has 6 recordings, but must have 3000") as error:
        SpokenDigits(tmp_path / "fsdd")
    assert "Without a network, put it into" in str(error.value)
    assert not list((tmp_path / "fsdd").iterdir())


def test_missing_file_without_download_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recordings\.tar\.gz does not exist; put it into"):
        SpokenDigits(tmp_path, download=False)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", r"recordings\.tar\.gz is not a tar\.gz file, or is damaged"),
        (lambda content: b"this is no archive", "is not a tar.gz file, or is damaged"),
        (lambda content: content[: len(content) // 2], "is not a tar.gz file, or is damaged"),
        (lambda content: content[:500] + b"damage" + content[506:], "is not a tar.gz file, or is"),
        (lambda content: gzip.compress(bytes(1024)), "has no file such as recordings/7_theo_0.wav"),
    ],
)
def test_damaged_archive_is_refused(small, damage, message):
    path = small / "recordings.tar.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        SpokenDigits(small)


def test_damaged_recording_is_named(tmp_path):
    root = archive(tmp_path / "bad", {"0_ann_0.wav": wav("a"), "1_ann_0.wav": b"RIFF"})
    with pytest.raises(StripDecodeError, match=r"gz/recordings/1_ann_0\.wav: not a WAV file"):
        SpokenDigits(root)


def test_missing_scipy_is_noticed_before_any_download(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scipy.io.wavfile", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastrnn\[audio\]'"):
        SpokenDigits(tmp_path / "fsdd")
    assert not (tmp_path / "fsdd").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"speakers": ["eve"]}, ValueError, "'eve', who is not among 'ann', 'bob'"),
        ({"speakers": []}, ValueError, "speakers is empty; give some of 'ann', 'bob'"),
        ({"speakers": ["bob", "bob"]}, ValueError, "but must be different names"),
        ({"speakers": "bob"}, TypeError, "speakers is 'bob', but must be a sequence of names"),
        ({"config": 40}, TypeError, "config is 40, but must be a LogMel"),
    ],
)
def test_wrong_arguments_are_named(small, arguments, error, message):
    with pytest.raises(error, match=message):
        SpokenDigits(small, **arguments)
