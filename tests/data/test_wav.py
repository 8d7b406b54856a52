import io
import struct
import sys
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.image import StripDecodeError
from fastrnn.data.wav import read_wav, read_wav_header

wavfile = pytest.importorskip("scipy.io.wavfile", reason="SciPy is not installed")
signal = pytest.importorskip("scipy.signal", reason="SciPy is not installed")

SOUND = np.random.default_rng(0).uniform(-1, 1, 300)
HEADER = 44  # bytes before the samples in a plain file


def pcm(bits, sound=SOUND, channels=1, rate=8000):
    """A file written by the standard library, which knows integers only."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, bits // 8, rate, 0, "NONE", ""))
        whole = np.rint(sound * (2 ** (bits - 1) - 1)).astype("<i4")
        if bits == 8:
            writer.writeframes((whole + 128).astype(np.uint8).tobytes())
        else:
            writer.writeframes(whole.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes())
    return file.getvalue()


def written(sound, rate=8000):
    file = io.BytesIO()
    wavfile.write(file, rate, sound)
    return file.getvalue()


def raw(content, header=None, after=b""):
    """A file of 16-bit integers with a "fmt " chunk as given."""
    plain = struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16) if header is None else header
    chunks = b"".join(
        name + struct.pack("<I", len(body)) + body
        for name, body in ((b"fmt ", plain), (b"data", content))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks + after)) + b"WAVE" + chunks + after


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers_of_all_widths_are_scaled_to_one(bits):
    content = pcm(bits)
    sound = read_wav(io.BytesIO(content), 8000)
    assert sound.dtype == np.float32
    # half a step of rounding, and one between the largest integer and 1; and of float32
    assert abs(sound - SOUND).max() < 1.5 / 2 ** (bits - 1) + 1e-7
    assert read_wav_header(io.BytesIO(content)) == (8000, 1, 300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_are_taken_as_they_are(dtype):
    loud = (3 * SOUND).astype(dtype)
    assert (read_wav(io.BytesIO(written(loud)), 8000) == loud.astype(np.float32)).all()


def test_silence_of_eight_bits_is_zero():
    assert not read_wav(io.BytesIO(written(np.full(9, 128, np.uint8))), 8000).any()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [2, 3])
def test_channels_are_averaged(bits, channels):
    content = pcm(bits, channels=channels)
    sound = read_wav(io.BytesIO(content), 8000)
    assert abs(sound - SOUND.reshape(-1, channels).mean(axis=1)).max() < 1e-2
    assert read_wav_header(io.BytesIO(content)) == (8000, channels, 300 // channels)


def test_path_and_file_object_give_the_same(save_wav):
    path = save_wav("a.wav", 500)
    with path.open("rb") as file:
        file.read(100)  # where it stands doesn't matter
        assert (read_wav(file, 8000) == read_wav(path, 8000)).all()
    assert (read_wav(str(path), 8000) == read_wav(path, 8000)).all()


@pytest.mark.parametrize("rate", [4000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_tone_keeps_its_pitch_at_another_sample_rate(rate):
    tone = np.sin(2 * np.pi * 600 * np.arange(rate) / rate).astype(np.float32)
    sound = read_wav(io.BytesIO(written(tone, rate)), 8000)
    assert len(sound) == 8000
    expected = np.sin(2 * np.pi * 600 * np.arange(8000) / 8000)
    assert abs(sound - expected)[200:-200].max() < 0.01


def test_resampling_is_that_of_scipy():
    noise = SOUND.astype(np.float32)
    for rate, up, down in ((44_100, 80, 441), (16_000, 1, 2), (6000, 4, 3)):
        expected = signal.resample_poly(noise, up, down)
        assert np.array_equal(read_wav(io.BytesIO(written(noise, rate)), 8000), expected)


@given(st.integers(1, 400), st.sampled_from([1000, 7999, 8000, 11_025, 44_100, 96_000]))
def test_header_tells_the_number_of_samples_after_resampling(samples, rate):
    content = written(np.ones(samples, np.int16), rate)
    header = read_wav_header(io.BytesIO(content))
    assert header.samples_at(8000) == len(read_wav(io.BytesIO(content), 8000))


def test_chunks_that_say_nothing_of_the_samples_are_passed_over(recwarn):
    samples = np.arange(5, dtype="<i2").tobytes()
    content = raw(samples, after=b"LIST\x03\0\0\0abc\0" + b"zzzz\x02\0\0\0ab")
    before = content[:12] + b"junk\x01\0\0\0x\0" + content[12:]
    for file in (content, before):
        assert len(read_wav(io.BytesIO(file), 8000)) == 5
    assert not recwarn


def test_extensible_and_big_endian_files_are_read():
    guid = bytes.fromhex("0000000010008000 00aa00389b71".replace(" ", ""))
    extensible = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 24000, 3, 24, 22, 24, 0)
    extensible += b"\x01\0" + guid
    samples = pcm(24)[HEADER:]
    sound = read_wav(io.BytesIO(raw(samples, extensible)), 8000)
    assert abs(sound - SOUND).max() < 2e-7

    format_chunk = b"fmt " + struct.pack(">IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    data = b"data" + struct.pack(">I", 4) + struct.pack(">hh", 16384, -8192)
    body = b"WAVE" + format_chunk + data
    rifx = b"RIFX" + struct.pack(">I", len(body)) + body
    assert read_wav(io.BytesIO(rifx), 8000).tolist() == [0.5, -0.25]


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
@pytest.mark.parametrize("bits", [16, 24])
def test_file_that_was_written_into_a_pipe_is_read_to_its_end(tmp_path, size, bits):
    content = bytearray(pcm(bits))
    content[4:8] = content[40:44] = struct.pack("<I", size)
    path = tmp_path / "piped.wav"
    path.write_bytes(content)
    assert read_wav_header(path).samples == 300
    assert (read_wav(path, 8000) == read_wav(io.BytesIO(pcm(bits)), 8000)).all()


FORMAT = "<HHIIHH"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"this is no sound, but a text\n", "not a WAV file"),
        (b"RIFF\0\0\0\0AVI " + bytes(50), "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (raw(b""), "has no samples"),
        (raw(bytes(20))[:30], "has a format chunk of 10 bytes, but it takes 16"),
        (raw(bytes(20))[:40], "is cut off before its samples"),
        (raw(bytes(20))[:50], "is cut off: the header says 10 samples, but 3 follow"),
        (raw(bytes(5)), "has 5 bytes of samples, but a sample takes 2"),
        (raw(bytes(8), struct.pack(FORMAT, 7, 1, 8000, 8000, 1, 8)), "samples of format 0x0007"),
        (raw(bytes(8), struct.pack(FORMAT, 1, 0, 8000, 0, 0, 16)), "has 0 channels of 16 bits"),
        (raw(bytes(8), struct.pack(FORMAT, 1, 1, 8000, 8000, 1, 16)), "which don't take 1 bytes"),
        (raw(bytes(8), struct.pack(FORMAT, 1, 1, 0, 0, 2, 16)), "has 0 samples a second, but"),
        (raw(bytes(8), struct.pack(FORMAT, 1, 1, 1, 2, 2, 16)), "has 1 samples a second, but"),
        (raw(bytes(8), struct.pack(FORMAT, 1, 1, 8000, 8000, 8, 64)), "has samples of 64 bits"),
        (raw(bytes(8), struct.pack(FORMAT, 3, 1, 8000, 8000, 2, 16)), "has samples of 16 bits"),
        (b"RIFF\x14\0\0\0WAVEdata\x08\0\0\0" + bytes(8), "has no format chunk before its samples"),
    ],
)
def test_broken_file_is_reported_with_its_reason_from_the_header(tmp_path, content, reason):
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    for read in (read_wav_header, lambda path: read_wav(path, 8000)):
        with pytest.raises(StripDecodeError, match=rf"broken\.wav: .*{reason}") as caught:
            read(path)
        assert caught.value.path == path


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [8000, 16_000])
def test_samples_that_are_no_numbers_are_refused(bad, rate):
    sound = SOUND.astype(np.float32)
    sound[99] = bad
    with pytest.raises(StripDecodeError, match="file object: has samples that are not finite"):
        read_wav(io.BytesIO(written(sound, rate)), 8000)


def test_numbers_beyond_single_precision_are_refused():
    with pytest.raises(StripDecodeError, match="not finite"):
        read_wav(io.BytesIO(written(np.full(50, 1e200))), 8000)


def test_missing_file_and_folder_are_reported(tmp_path):
    with pytest.raises(StripDecodeError, match=r"none\.wav: the file does not exist"):
        read_wav_header(tmp_path / "none.wav")
    with pytest.raises(StripDecodeError, match="is a folder, but must be a file"):
        read_wav(tmp_path, 8000)


def test_every_cut_is_noticed():
    content = pcm(16, SOUND[:20])
    for size in range(len(content)):
        with pytest.raises(StripDecodeError):
            read_wav_header(io.BytesIO(content[:size]))
        with pytest.raises(StripDecodeError):
            read_wav(io.BytesIO(content[:size]), 8000)


@given(st.dictionaries(st.integers(0, HEADER - 1), st.integers(0, 255), max_size=4))
def test_damaged_header_gives_sound_or_a_decode_error_and_nothing_else(damage):
    content = bytearray(pcm(16, SOUND[:60], channels=2))
    for place, byte in damage.items():
        content[place] = byte
    try:
        header = read_wav_header(io.BytesIO(content))
        sound = read_wav(io.BytesIO(content), 8000)
    except StripDecodeError:
        return
    assert len(sound) == header.samples_at(8000)
    assert np.isfinite(sound).all()


def test_missing_scipy_is_a_clear_error(monkeypatch, save_wav):
    path = save_wav("a.wav")
    monkeypatch.setitem(sys.modules, "scipy.io.wavfile", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs SciPy: pip install 'fastrnn\[audio\]'"):
        read_wav(path, 8000)
    assert read_wav_header(path).samples == 4000


@pytest.mark.parametrize("rate", [0, -8000])
def test_sample_rate_out_of_range_is_an_error(rate, save_wav):
    with pytest.raises(ValueError, match=r"sample_rate is .*, but must be at least 1"):
        read_wav(save_wav("a.wav"), rate)
