import pickle
import sys

import numpy as np
import pytest
import torch

from fastrnn.data import StripDecodeError
from fastrnn.data.audio import StripAudio, read_audio
from fastrnn.data.spectrogram import LogMel, log_mel
from fastrnn.data.wav import read_wav

wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")


def test_sounds_are_read_as_unlabelled_strips(save_wav):
    paths = [save_wav("a.wav", 4000), str(save_wav("b.wav", 88_200, rate=44_100, channels=2))]
    strips = StripAudio(paths)
    assert (strips.height, strips.channels) == (40, 1)
    assert strips.lengths.tolist() == [48, 198]
    assert strips.targets.tolist() == [-1, -1]
    strip, target = strips[1]
    assert strip.dtype == torch.uint8
    assert target == -1
    assert (strip.numpy() == log_mel(read_wav(paths[1], 8000), LogMel())).all()
    assert (strip.numpy() == read_audio(paths[1], LogMel())).all()


def test_configuration_sets_rows_and_columns(save_wav):
    config = LogMel(sample_rate=16_000, n_mels=64, hop=0.005)
    strips = StripAudio([save_wav("a.wav", 8000)], targets=[0], labels=["hum"], config=config)
    assert strips.config == config
    assert strips[0][0].shape == (1, 64, strips.lengths[0]) == (1, 64, 196)


def test_opening_reads_headers_only(monkeypatch, save_wav):
    paths = [save_wav(f"{rate}.wav", 5001, rate=rate) for rate in (8000, 11_025, 44_100)]

    def never(*_):
        raise AssertionError("samples were read")

    with monkeypatch.context() as patch:
        patch.setattr(wavfile, "read", never)
        strips = StripAudio(paths)
    assert strips.lengths.tolist() == [strip.shape[-1] for strip, _ in strips]


def write_bad_files(folder, save_wav):
    """Files that can't be read, with the reasons."""
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"no sound")
    cut = save_wav("cut.wav")
    cut.write_bytes(cut.read_bytes()[:500])
    save_wav("short.wav", 150)
    save_wav("none.wav", 0)
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    noise[7] = np.nan
    wavfile.write(folder / "nan.wav", 8000, noise)
    return {
        "empty": "the file is empty",
        "text": "not a WAV file",
        "cut": "is cut off: the header says 4000 samples, but 228 follow",
        "short": "lasts 0.01875 seconds, but a window takes 0.025",
        "none": "has no samples",
        "missing": "the file does not exist",
        "nan": "has samples that are not finite numbers",
    }


def test_bad_files_raise_with_their_reason(tmp_path, save_wav):
    reasons = write_bad_files(tmp_path, save_wav)
    only_when_read = "nan"
    for name, reason in reasons.items():
        path = tmp_path / f"{name}.wav"
        with pytest.raises(StripDecodeError) as caught:
            read_audio(path, LogMel())
        assert (caught.value.path, caught.value.reason) == (path, reason)
        if name == only_when_read:
            strips = StripAudio([path])
            with pytest.raises(StripDecodeError, match=reason):
                strips[0]
        else:
            with pytest.raises(StripDecodeError, match=rf"{name}\.wav: {reason}"):
                StripAudio([save_wav("good.wav"), path])


def test_skip_leaves_out_what_cannot_be_read_and_says_so(tmp_path, save_wav):
    reasons = write_bad_files(tmp_path, save_wav)
    bad = [tmp_path / f"{name}.wav" for name in reasons]
    paths = [save_wav("0.wav", 800), *bad, save_wav("1.wav", 1600)]
    targets = [1, *[0] * len(bad), 0]
    strips = StripAudio(paths, targets=targets, labels=["a", "b"], on_error="skip")
    assert [path.name for path in strips.paths] == ["0.wav", "1.wav"]
    assert strips.targets.tolist() == [1, 0]
    assert strips.lengths.tolist() == [8, 18]
    assert strips.skipped == tuple(zip(bad, reasons.values(), strict=True))


def test_dataset_goes_to_other_processes(save_wav):
    strips = StripAudio([save_wav("a.wav")])
    assert (pickle.loads(pickle.dumps(strips))[0][0] == strips[0][0]).all()


def test_missing_scipy_is_noticed_at_once_and_not_taken_for_a_bad_file(monkeypatch, save_wav):
    path = save_wav("a.wav")
    monkeypatch.setitem(sys.modules, "scipy.io.wavfile", None)
    for on_error in ("raise", "skip"):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastrnn\[audio\]'"):
            StripAudio([path], on_error=on_error)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": []}, ValueError, "paths is empty; give at least one file"),
        ({"paths": "a.wav"}, TypeError, "paths is 'a.wav', but must be a sequence of files"),
        ({"on_error": "ignore"}, ValueError, "on_error is 'ignore', but must be"),
        ({"targets": [0, 1]}, ValueError, "targets has 2 entries, but there are 1 files"),
        ({"targets": [3], "labels": ["a"]}, ValueError, r"targets\[0\] is 3, but must be in -1"),
        ({"config": {"n_mels": 3}}, TypeError, "config is {'n_mels': 3}, but must be a LogMel"),
    ],
)
def test_wrong_arguments_are_named(save_wav, arguments, error, message):
    with pytest.raises(error, match=message):
        StripAudio(**({"paths": [save_wav("a.wav")]} | arguments))
