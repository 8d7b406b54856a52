import struct
import sys
import wave
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from fastrnn.data import StripDecodeError
from fastrnn.data.video import read_video
from fastrnn.data.video_decoding import count_frames, read_frame_size, read_frames

WRITERS = [
    ("a.avi", "mpeg4", "yuv420p", {"bf": "2"}),
    ("a.mp4", "mpeg4", "yuv420p", {"bf": "2"}),
    ("a.mkv", "mpeg4", "yuv420p", {}),
    ("a.avi", "mjpeg", "yuvj420p", {}),
    ("a.mov", "png", "rgb24", {}),
    ("a.mkv", "ffv1", "yuv420p", {}),
    ("a.gif", "gif", "rgb8", {}),
    ("a.mpg", "mpeg2video", "yuv420p", {"flags": "+ildct+ilme"}),
]


# FFmpeg doesn't recognise a .ts file of a few packets
COUNTS = [(*writer, frames) for writer in WRITERS for frames in (1, 13)]
COUNTS += [("a.ts", "mpeg2video", "yuv420p", {"bf": "2"}, 13)]


@pytest.mark.parametrize(("name", "codec", "pixels", "options", "frames"), COUNTS)
def test_count_is_what_decoding_gives(write_clip, moving, name, codec, pixels, options, frames):
    def rate(stream):  # the only one of these that MPEG-2 knows
        stream.codec_context.framerate = Fraction(25)

    prepare = rate if codec == "mpeg2video" else lambda stream: None
    path = write_clip(name, moving(frames), codec, pixels, options, prepare)
    assert count_frames(path) == count_frames(path, decode=True) == frames
    assert len(read_video(path, 28)) == frames


def test_count_leaves_out_what_is_never_shown(write_clip, moving):
    """MPEG-4 marks a frame that didn't change by a packet that decodes to nothing."""
    import av

    source = write_clip("a.avi", moving(6), "mpeg4", "yuv420p")
    target = source.with_name("b.avi")
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if not packet.size:
                continue
            if number == 3:
                # ISO 14496-2, 6.2.5: P (01), no second, marker, 3 of 10 ticks, marker, not coded
                empty = av.Packet(b"\0\0\1\xb6" + bytes([0b01010011, 0b10011111]))
                empty.pts, empty.dts = packet.pts, packet.dts
                empty.time_base, empty.duration = packet.time_base, packet.duration
                packet = empty
            packet.stream = stream
            new.mux(packet)
    assert count_frames(target) == count_frames(target, decode=True) == 5


def test_count_of_a_clip_that_begins_between_key_frames_is_what_decoding_gives(write_clip, moving):
    import av

    source = write_clip("a.mkv", moving(12), "mpeg4", "yuv420p", {"g": "6"})
    target = source.with_name("b.mkv")
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number >= 3:
                packet.stream = stream
                new.mux(packet)
    assert count_frames(target) == count_frames(target, decode=True)


def test_frames_of_the_right_size_are_read_unchanged(write_clip, noise):
    frames = noise(5, 28, 41, 3)
    path = write_clip("a.avi", frames)
    assert (read_video(path, 28, 3).numpy() == frames.transpose(0, 3, 1, 2)).all()
    grey = np.stack([np.asarray(Image.fromarray(frame).convert("L")) for frame in frames])
    assert (read_video(path, 28, 1).numpy()[:, 0] == grey).all()


@pytest.mark.parametrize(("height", "width"), [(28, 37), (16, 64), (96, 128)])
def test_frames_are_scaled_smoothly_to_the_wanted_size(write_clip, moving, height, width):
    frames = moving(2)
    scaled = read_video(write_clip("a.avi", frames), height, 3, width)
    assert scaled.shape == (2, 3, height, width)
    wanted = Image.fromarray(frames[1]).resize((width, height), Image.Resampling.BILINEAR)
    difference = scaled[1].numpy().transpose(1, 2, 0).astype(int) - np.asarray(wanted)
    assert abs(difference).mean() < 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 2000)])
@pytest.mark.parametrize("size", [(28, None), (1, 1), (7, 3)])
def test_frames_one_pixel_across_are_read(write_clip, shape, size):
    path = write_clip("a.avi", np.full((2, *shape, 3), 77, np.uint8))
    height, width = size
    frames = read_video(path, height, 1, width)
    assert frames.shape == (2, 1, height, width or max(1, round(28 * shape[1] / shape[0])))
    assert abs(frames.int() - 77).max() <= 2


def test_transparent_parts_of_a_gif_become_white(tmp_path, write_clip):
    picture = np.zeros((28, 40, 4), np.uint8)
    picture[:, :20, 3] = 255
    first, second = Image.fromarray(picture), Image.fromarray(picture[:, ::-1].copy())
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second], disposal=2)
    frames = read_video(tmp_path / "a.gif", 28, 1)[:, 0]
    assert (frames[0] == frames[1].flip(-1)).all()
    assert frames[0, 0].tolist() == [0] * 20 + [255] * 20


MATRICES = {  # a, b, c, d of ISO 14496-12 for EXIF's orientations, from the equations there
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@pytest.mark.parametrize("orientation", MATRICES)
def test_rotation_that_the_file_states_is_honoured(write_clip, noise, orientation):
    frames = noise(2, 28, 40, 3)
    path = write_clip("a.mov", frames)
    content = path.read_bytes()
    header = content.index(b"tkhd") + 4
    matrix = header + 40 + 12 * content[header]
    a, b, c, d = MATRICES[orientation]
    turned = struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(content[:matrix] + turned + content[matrix + 36 :])

    seen = np.zeros_like(frames if orientation < 5 else frames.transpose(0, 2, 1, 3))
    rows, columns = np.mgrid[:28, :40]
    down, right = b * columns + d * rows, a * columns + c * rows
    seen[:, down - down.min(), right - right.min()] = frames
    assert read_frame_size(path) == seen.shape[2:0:-1]
    assert (read_video(path, seen.shape[1], 3).numpy() == seen.transpose(0, 3, 1, 2)).all()


def test_pixels_that_are_not_square_widen_the_frame(write_clip, moving):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(3, 2)

    path = write_clip("a.mkv", moving(2), "mpeg4", "yuv420p", prepare=prepare)
    assert read_frame_size(path) == (96, 48)
    assert read_video(path, 24).shape[-1] == 48


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.avi", "mpeg4", "yuv420p"), ("a.mov", "png", "rgb24"), ("a.mkv", "ffv1", "yuv420p")],
)
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_cut_file_is_reported(write_clip, moving, name, codec, pixels, share):
    path = write_clip(name, moving(10), codec, pixels)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(StripDecodeError, match=r"a\.\w+: is cut off: its container states"):
        count_frames(path)


def test_incomplete_packet_is_reported_where_the_container_states_no_length(write_clip, moving):
    path = write_clip("a.flv", moving(10), "flv", "yuv420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    with pytest.raises(StripDecodeError, match=r"a\.flv: can't be decoded \(packet \d+ is incompl"):
        count_frames(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mp4", b"", "the file is empty"),
        ("a.mp4", b"this is no video\n" * 50, "not a video, or in a format that FFmpeg can't read"),
        ("a.gif", b"GIF89a", "is cut off: its end mark is missing"),
        ("a.avi", None, "the file does not exist"),
    ],
)
def test_files_that_are_no_video_are_reported(tmp_path, write_clip, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for read in (count_frames, read_frame_size, lambda path: read_video(path, 28)):
        if content == b"GIF89a" and read is read_frame_size:
            continue  # which doesn't look for the end
        with pytest.raises(StripDecodeError, match=f"{name}: .*{reason}"):
            read(tmp_path / name)


def test_sound_without_video_is_reported(tmp_path, write_clip):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(4000))
    with pytest.raises(StripDecodeError, match=r"a\.wav: holds no video \(only audio\)"):
        count_frames(tmp_path / "a.wav")


def test_cover_of_a_record_is_no_video(tmp_path, write_clip):
    import av
    from av.stream import Disposition

    if "libmp3lame" not in av.codecs_available:
        pytest.skip("this PyAV can't write MP3")
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w") as file:
        sound = file.add_stream("libmp3lame", rate=16_000)
        cover = file.add_stream("mjpeg")
        cover.width, cover.height, cover.pix_fmt = 40, 28, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value
        file.mux(cover.encode(av.VideoFrame(40, 28, "yuvj420p")))
        file.mux(cover.encode())
        frame = av.AudioFrame("fltp", "mono", 1152)
        frame.sample_rate, frame.pts = 16_000, 0
        file.mux(sound.encode(frame))
        file.mux(sound.encode())
    with pytest.raises(StripDecodeError, match=r"a\.mp3: holds no video \(only audio\)"):
        count_frames(path)


def test_damaged_frame_is_reported_when_decoded(write_clip, noise):
    path = write_clip("a.avi", noise(5, 28, 40, 3))
    content = bytearray(path.read_bytes())
    third = [at for at in range(len(content)) if content.startswith(b"IDAT", at)][2]
    content[third + 20 : third + 60] = bytes(40)
    path.write_bytes(content)
    assert count_frames(path) == 5
    with pytest.raises(StripDecodeError, match=r"a\.avi: can't be decoded"):
        count_frames(path, decode=True)
    with pytest.raises(StripDecodeError, match=r"a\.avi: can't be decoded"):
        read_video(path, 28)
    assert len(read_video(path, 28, max_frames=2)) == 2


def test_another_number_of_frames_than_counted_is_reported(write_clip, moving):
    path = write_clip("a.avi", moving(5))
    for total, chosen in ((6, range(6)), (4, range(4))):
        with pytest.raises(StripDecodeError, match=rf"decodes to 5 frames, but {total} were found"):
            read_frames(path, chosen, total, (28, 28), 1)


def test_a_colon_in_a_name_is_no_protocol(write_clip, moving):
    path = write_clip("a.avi", moving(2))
    odd = path.rename(path.with_name("concat:b.avi"))
    assert count_frames(odd) == 2


def test_missing_pyav_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastrnn\[video\]'"):
        read_video(tmp_path / "a.avi", 28)
