import dataclasses
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data import StripDecodeError, StripDepth, StripFiles, StripVideo
from fastrnn.data.audio import SoundReader, StripAudio
from fastrnn.data.depth import DepthReader
from fastrnn.data.files import ImageReader
from fastrnn.data.readers import READERS, reader_from_json
from fastrnn.data.reading import FileStrips
from fastrnn.data.spectrogram import LogMel
from fastrnn.data.video import VideoReader

EVERY_SETTING = [
    ImageReader(14, 3, (3, 200), 20, "tail"),
    SoundReader(LogMel(sample_rate=16_000, n_mels=20, fmax=7000.0), 30, "centre"),
    VideoReader(14, 3, 11, 2, 4, "centre"),
    DepthReader((500, 4500), 14, 2, ".depth.npy", "zeros", 20, "tail"),
]


@pytest.fixture
def files(tmp_path, save, save_wav, noise):
    """Makes two files for a reader, in class folders "a" and "b"; returns their paths."""

    def make(kind):
        paths = []
        for label, width in (("a", 50), ("b", 70)):
            path = tmp_path / kind / label / "1.png"
            if kind == "sounds":
                path = save_wav(f"{kind}/{label}/1.wav", 80 * width)
            elif kind == "videos":
                path = path.with_suffix(".gif")
                path.parent.mkdir(parents=True)
                first, *others = [Image.fromarray(noise(28, 40)) for _ in range(width // 10)]
                first.save(path, save_all=True, append_images=others)
            else:
                save(f"{kind}/{label}/1.png", width)
            if kind == "depth":
                np.save(path.with_name("1.depth.npy"), np.full((28, width), 1000.0))
            paths.append(path)
        return paths

    return make


def skip_without(reader):
    if reader.kind == "videos":
        pytest.importorskip("av", reason="PyAV is not installed: pip install 'fastrnn[video]'")


@pytest.mark.parametrize("reader", EVERY_SETTING, ids=lambda reader: reader.kind)
def test_what_a_reader_opens_is_what_it_reads(reader, files):
    skip_without(reader)
    paths = files(reader.kind)
    root = paths[0].parent.parent
    (root.parent / "some.csv").write_text(
        "path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths)
    )
    opened = [
        reader.open_files(paths, targets=[0, 1], labels=["a", "b"]),
        reader.open_folder(root),
        reader.open_manifest(root.parent / "some.csv"),
        reader.open_files(paths, targets=[0, 1], labels=["a", "b"], on_error="skip"),
    ]
    assert reader.find(root) == paths
    for strips in opened:
        assert isinstance(strips, FileStrips)
        assert strips.reader == reader
        assert strips.paths == tuple(paths)
        assert strips.targets.tolist() == [0, 1]
        assert (strips.height, strips.channels) == (reader.height, reader.channels)
        for number, path in enumerate(paths):
            strip = reader.read(path)
            assert strip.shape == (reader.channels, reader.height, strips.lengths[number])
            assert reader.width(path) == strip.shape[2]
            assert (strips[number][0].numpy() == strip).all()


@pytest.mark.parametrize("keep", ["head", "tail", "centre"])
def test_a_part_of_the_strip_is_kept(save, keep):
    path = save("a.png", 50)
    whole = ImageReader().read(path)
    start = {"head": 0, "tail": 30, "centre": 15}[keep]
    part = ImageReader(max_width=20, keep=keep).read(path)
    assert (part == whole[..., start : start + 20]).all()
    assert (ImageReader(max_width=60, keep=keep).read(path) == whole).all()


def test_a_dataset_says_how_its_files_are_read(files):
    paths = files("images")
    assert StripFiles(paths, channels=3, value_range=(0, 99)).reader == ImageReader(28, 3, (0, 99))
    sounds = files("sounds")
    assert StripAudio(sounds, config=LogMel(n_mels=9)).reader == SoundReader(LogMel(n_mels=9))
    depth = StripDepth(files("depth"), depth_range=(1, 9), depth_ending=".depth.npy", channels=2)
    assert depth.reader == DepthReader((1, 9), 28, 2, ".depth.npy")


def test_the_first_clip_decides_on_the_width_of_a_frame(files):
    skip_without(VideoReader())
    paths = files("videos")
    clips = VideoReader(height=14, stride=2).open_files(paths)
    assert isinstance(clips, StripVideo)
    assert clips.reader == VideoReader(height=14, stride=2, frame_width=20)
    assert clips.lengths.tolist() == [60, 80]
    assert VideoReader(height=14).read(paths[1]).shape == (1, 14, 140)


def test_an_image_is_no_video_though_ffmpeg_reads_it(save):
    skip_without(VideoReader())
    path = save("a.png")
    for read in (VideoReader().read, VideoReader().width, lambda p: StripVideo([p])):
        with pytest.raises(StripDecodeError, match=r"a\.png: is an image by its ending"):
            read(path)


def test_depth_maps_are_no_strips_of_their_own(tmp_path, save):
    for name in ("a/1.png", "a/1.depth.png", "b/2.png", "b/2.depth.png"):
        save(name)
    reader = DepthReader((1, 9))
    assert [path.name for path in reader.find(tmp_path)] == ["1.png", "2.png"]
    assert reader.strips_among([tmp_path / "a.png", tmp_path / "a.depth.png"]) == [
        tmp_path / "a.png"
    ]


@pytest.mark.parametrize(
    ("reader", "module", "extra"),
    [(SoundReader(), "scipy.io.wavfile", "audio"), (VideoReader(), "av", "video")],
)
def test_a_missing_library_is_named_before_any_file_is_opened(reader, module, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, module.partition(".")[0], None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'fastrnn\[{extra}\]'"):
        reader.open_files(["nowhere"])


@pytest.mark.parametrize("reader", [*EVERY_SETTING, *(ImageReader(), SoundReader(), VideoReader())])
def test_a_reader_survives_json(reader):
    data = json.loads(json.dumps(reader.as_json()))
    assert data == reader.as_json()
    again = reader_from_json(data)
    assert again == reader
    assert hash(again) == hash(reader)
    # an older version knew fewer settings
    assert reader_from_json({"kind": "images", "channels": 3}) == ImageReader(channels=3)


def damaged(reader, **changes):
    return reader.as_json() | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "a reader is None, but must be a JSON object"),
        ({}, "a reader's kind is None, but must be one of images, sounds, videos, depth"),
        ({"kind": ["images"]}, "kind is"),
        (damaged(ImageReader(), gamma=2), "of images: the setting 'gamma' is not known; was it s"),
        ({"kind": "depth"}, "the reader of depth: the setting 'depth_range' is missing"),
        (damaged(ImageReader(), height="28"), "height is '28', but must be an integer"),
        (damaged(ImageReader(), height=True), "height is True, but must be an integer"),
        (damaged(ImageReader(), channels=2), "channels is 2, but must be 1"),
        (damaged(ImageReader(), value_range="12"), "value_range is '12', but must be a pair"),
        (damaged(ImageReader(), value_range=[9, 1]), "value_range is"),
        (damaged(ImageReader(), keep="left"), "keep is 'left', but must be \"head\""),
        (damaged(ImageReader(), max_width=0), "max_width is 0, but must be at least 1"),
        (damaged(SoundReader(), config=[]), r"config is \[\], but must be a JSON object"),
        (damaged(SoundReader(), config={"hop": 0}), "the reader of sounds: hop is 0"),
        (damaged(SoundReader(), config={"pitch": 1}), "the setting 'pitch' is not known"),
        (damaged(SoundReader(), config={"sample_rate": 10**12}), "sample_rate is 1000000000000"),
        (damaged(VideoReader(), frame_width=2**20), "frame_width is 1048576, but must be at most"),
        (damaged(VideoReader(), stride=None), "stride is None, but must be an integer"),
        (damaged(DepthReader((1, 9)), missing="ones"), "missing is 'ones'"),
        (damaged(DepthReader((1, 9)), depth_ending=3), "depth_ending is 3, but must be a string"),
    ],
)
def test_damage_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        reader_from_json(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(st.data())
def test_any_json_is_a_reader_or_a_clear_error(data):
    kind = data.draw(st.sampled_from(list(READERS)))
    names = [field.name for field in dataclasses.fields(READERS[kind])]
    names_of_sound = [field.name for field in dataclasses.fields(LogMel)]
    config = st.dictionaries(st.sampled_from(names_of_sound), json_values, max_size=3)
    settings = data.draw(st.dictionaries(st.sampled_from(names), json_values | config, max_size=3))
    try:
        reader = reader_from_json({"kind": kind, **settings})
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert reader.height >= 1
