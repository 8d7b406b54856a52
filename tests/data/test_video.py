import pickle

import numpy as np
import pytest
import torch

from fastrnn.data import StripDecodeError, strip_batches
from fastrnn.data.frames import strip_to_frames
from fastrnn.data.video import StripVideo, find_videos, read_video


@pytest.fixture
def clips(write_clip, noise):
    """Paths and frames of two clips that were stored without loss."""
    frames = [noise(5, 28, 40, 3), noise(9, 28, 40, 3)]
    paths = [write_clip(f"{number}.avi", clip) for number, clip in enumerate(frames)]
    return paths, [clip.transpose(0, 3, 1, 2) for clip in frames]


def test_strip_shows_the_frames_side_by_side(clips):
    paths, frames = clips
    strips = StripVideo(paths, targets=[1, -1], labels=["a", "b"], channels=3)
    assert strips.frame_width == 40
    assert strips.frames.dtype == np.int64
    assert strips.frames.tolist() == [5, 9]
    assert strips.lengths.tolist() == [200, 360]
    assert strips.targets.tolist() == [1, -1]
    for number, wanted in enumerate(frames):
        strip, _ = strips[number]
        assert strip.dtype == torch.uint8
        assert strip.shape == (3, 28, strips.lengths[number])
        assert (strip_to_frames(strip, 40).numpy() == wanted).all()


@pytest.mark.parametrize(
    ("choice", "first", "second"),
    [
        ({}, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ({"stride": 3}, [0, 3], [0, 3, 6]),
        ({"max_frames": 6}, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5]),
        ({"max_frames": 6, "keep": "tail"}, [0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8]),
        ({"max_frames": 4, "keep": "centre"}, [0, 1, 2, 3], [2, 3, 4, 5]),
        ({"max_frames": 2, "keep": "tail", "stride": 2}, [2, 4], [6, 8]),
    ],
)
def test_frames_are_chosen_by_stride_and_end(clips, choice, first, second):
    paths, frames = clips
    strips = StripVideo(paths, channels=3, **choice)
    assert strips.frames.tolist() == [len(first), len(second)]
    for number, chosen in enumerate((first, second)):
        got = strip_to_frames(strips[number][0], 40).numpy()
        assert (got == frames[number][chosen]).all()
        assert (read_video(paths[number], 28, 3, **choice).numpy() == got).all()


def test_aspect_of_the_first_clip_sets_the_width_of_all_frames(write_clip, moving):
    paths = [write_clip("a.avi", moving(2, 56, 100)), write_clip("b.avi", moving(3, 80, 40))]
    strips = StripVideo(paths)
    assert strips.frame_width == 50
    assert [strip.shape for strip, _ in strips] == [(1, 28, 100), (1, 28, 150)]
    given = StripVideo(paths, frame_width=11)
    assert [strip.shape[-1] for strip, _ in given] == [22, 33]


def test_folder_of_class_folders_is_opened(write_clip, moving):
    for name in ("wave/1.avi", "wave/deep/2.mkv", "jump/1.GIF"):
        codec, pixels = {"v": ("mpeg4", "yuv420p"), "F": ("gif", "rgb8")}.get(
            name[-1], ("mpeg4", "yuv420p")
        )
        root = write_clip(name, moving(2), codec, pixels).parents[1]
    root = root if root.name != "wave" else root.parent
    (root / "jump" / "notes.txt").write_text("x")
    strips = StripVideo.from_folder(root, height=14)
    assert strips.labels == ("jump", "wave")
    assert strips.targets.tolist() == [0, 1, 1]
    assert [path.name for path in strips.paths] == ["1.GIF", "1.avi", "2.mkv"]
    ordered = StripVideo.from_folder(root, labels=["wave", "walk", "jump"])
    assert ordered.targets.tolist() == [2, 0, 0]
    assert len(find_videos(root)) == 3


def test_folder_without_videos_is_an_error(tmp_path, save):
    save("cat/1.png")
    with pytest.raises(ValueError, match=r"there are no videos in .*cat \(endings looked"):
        find_videos(tmp_path / "cat")


def test_skip_leaves_out_what_cannot_be_decoded_and_says_so(clips, write_clip, noise, tmp_path):
    paths, _ = clips
    hurt = write_clip("hurt.avi", noise(4, 28, 40, 3))
    content = hurt.read_bytes()
    hurt.write_bytes(content.replace(b"IDAT", b"IDXT"))
    bad = [tmp_path / "text.mp4", tmp_path / "empty.avi", hurt]
    bad[0].write_text("this is no video\n")
    bad[1].touch()
    with pytest.raises(StripDecodeError, match=r"text\.mp4: .*not a video"):
        StripVideo([*paths, *bad])
    strips = StripVideo([bad[0], *paths, *bad[1:]], targets=[-1] * 5, on_error="skip")
    assert strips.frames.tolist() == [5, 9]
    assert [path.name for path, _ in strips.skipped] == ["text.mp4", "empty.avi", "hurt.avi"]
    assert [strip.shape[-1] for strip, _ in strips] == [200, 360]


def test_damaged_frames_raise_when_asked_for(clips, write_clip, noise):
    hurt = write_clip("hurt.avi", noise(4, 28, 40, 3))
    hurt.write_bytes(hurt.read_bytes().replace(b"IDAT", b"IDXT"))
    strips = StripVideo([clips[0][0], hurt])
    assert strips[0][0].shape == (1, 28, 200)
    with pytest.raises(StripDecodeError, match=r"hurt\.avi: "):
        strips[1]


def test_clips_are_batched_and_pickled_like_other_strips(clips):
    strips = StripVideo(clips[0], targets=[0, 1], labels=["a", "b"])
    again = pickle.loads(pickle.dumps(strips))
    assert again[1][0].equal(strips[1][0])
    [batch] = strip_batches(strips, max_padded_steps=10_000, shuffle=False)
    assert batch.strips.shape == (2, 1, 28, 360)
    assert sorted(batch.lengths.tolist()) == [200, 360]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"paths": []}, ValueError, "paths is empty; give at least one file"),
        ({"paths": "a.avi"}, TypeError, "paths is 'a.avi', but must be a sequence of files"),
        ({"channels": 2}, ValueError, r"channels is 2, but must be 1 \(grey\) or 3 \(RGB\)"),
        ({"height": 0}, ValueError, "height is 0, but must be at least 1"),
        ({"frame_width": 0}, ValueError, "frame_width is 0, but must be at least 1"),
        ({"stride": 0}, ValueError, "stride is 0, but must be at least 1"),
        ({"keep": "best"}, ValueError, "keep is 'best', but must be"),
        ({"on_error": "ignore"}, ValueError, "on_error is 'ignore', but must be"),
        ({"targets": [0]}, ValueError, "targets has 1 entries, but there are 2 files"),
    ],
)
def test_wrong_arguments_are_named(clips, arguments, error, message):
    with pytest.raises(error, match=message):
        StripVideo(**({"paths": clips[0]} | arguments))
