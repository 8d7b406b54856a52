import gzip
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fastrnn.data import StripDecodeError
from fastrnn.data.shards import StripShards
from fastrnn.data.tar_shards import TarShard

JSON_A = b'{"label": "a"}'


def entries(path):
    return list(TarShard(path, 28, 1).index(widths=True))


def only_error(path):
    (error,) = [entry for entry in entries(path) if isinstance(entry, StripDecodeError)]
    assert error.path == path
    return error.reason


@pytest.mark.parametrize(
    ("member", "content", "label"),
    [
        ("k.json", b'{"label": "cat", "more": [1]}', "cat"),
        ("k.json", b'\n {"label": 7}', 7),
        ("k.json", b'{"label": null}', None),
        ("k.json", b'{"label": ""}', None),
        ("k.json", b'{"label": -1}', None),
        ("k.cls", b"3\n", 3),
        ("k.cls", b"-1", None),
        ("k.CLS", b"0", 0),
        ("k.txt", "Ähre 7 \n".encode(), "Ähre 7"),
        ("k.txt", b"7", "7"),
        ("k.txt", b"", None),
    ],
)
def test_label_has_one_of_three_forms(write_tar, png, member, content, label):
    (sample,) = entries(write_tar("a.tar", [("k.png", png(60)), (member, content)]))
    assert (sample.key, sample.label, sample.width) == ("k", label, 60)


def test_members_are_grouped_up_to_the_first_dot_in_any_order(write_tar, png):
    path = write_tar(
        "a.tar",
        [
            ("./x.y/1.txt", b"a"),
            ("./x.y/1.png", png(40)),
            ("./x.y/1.mask.png", png()),
            ("./x.y/2.JPG", png(44)),
            ("x.y/2.cls", b"1"),
            ("x.y/2.boxes", b"?"),
            (".hidden", b""),
        ],
    )
    assert [(s.key, s.label, s.width) for s in entries(path)] == [
        ("x.y/1", "a", 40),
        ("x.y/2", 1, 44),
    ]


def test_folders_between_members_and_long_names_do_no_harm(tmp_path, png):
    path = tmp_path / "a.tar"
    long = "d" * 90 + "/" + "k" * 90
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in ((f"{long}.png", png()), ("d", None), (f"{long}.json", JSON_A)):
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    assert [(sample.key, sample.label) for sample in entries(path)] == [(long, "a")]


def test_opening_reads_image_headers_only(monkeypatch, write_tar, png):
    path = write_tar("a.tar", [("1.png", png()), ("1.txt", b"a")])
    monkeypatch.setattr(Image.Image, "load", None)
    assert len(entries(path)) == 1


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("k.txt", b"a")], "has no image"),
        ([("k.png", None)], r"has no label \(\.cls, \.json, \.txt\)"),
        ([("k.png", None), ("k.jpg", None), ("k.txt", b"a")], r"has 2 images: k\.png and k\.jpg"),
        ([("k.png", None), ("k.txt", b"a"), ("k.cls", b"0")], r"has 2 labels: k\.txt and k\.cls"),
        ([("k.png", None), ("k.txt", b"a"), ("k.txt", b"a")], r"has 2 labels: k\.txt and k\.txt"),
        ([("k.png", b"no"), ("k.txt", b"a")], "not an image"),
        ([("k.png", b""), ("k.txt", b"a")], "its image is empty"),
        ([("k.png", None), ("k.txt", b"\xff")], "label is not UTF-8"),
        ([("k.png", None), ("k.cls", b"cat")], "label 'cat' is not a class number"),
        ([("k.png", None), ("k.cls", b"1.5")], "label '1.5' is not a class number"),
        ([("k.png", None), ("k.cls", b"")], "label '' is not a class number"),
        ([("k.png", None), ("k.cls", b"-2")], r"class number -2 is not in -1 \.\. 999,999"),
        ([("k.png", None), ("k.cls", b"1000000")], "class number 1000000 is not in"),
        ([("k.png", None), ("k.json", b"{")], "label is not JSON"),
        ([("k.png", None), ("k.json", b"\xff\xfe\x00")], "label is not JSON"),
        ([("k.png", None), ("k.json", b"[" * 100_000)], "label is not JSON"),
        ([("k.png", None), ("k.json", b"[]")], 'label has no "label" in its JSON'),
        ([("k.png", None), ("k.json", b'{"l": 1}')], 'label has no "label" in its JSON'),
        ([("k.png", None), ("k.json", b'{"label": 1.5}')], '"label" is 1.5, but must be a name'),
        ([("k.png", None), ("k.json", b'{"label": true}')], '"label" is True, but must be'),
        (
            [("k.png", None), ("k.txt", b"a" * (2 << 20))],
            r"label k\.txt has 2,097,152 bytes, too many",
        ),
    ],
)
def test_bad_sample_is_named_and_its_neighbours_are_not_touched(write_tar, png, members, reason):
    good = ("png", None), ("json", JSON_A)
    around = [[(f"{key}.{ending}", content) for ending, content in good] for key in "az"]
    content = [(n, png() if c is None else c) for n, c in [*around[0], *members, *around[1]]]
    path = write_tar("a.tar", content)
    first, bad, last = entries(path)
    assert (first.key, last.key) == ("a", "z")
    with pytest.raises(StripDecodeError, match=rf"a\.tar: sample 'k': {reason}"):
        raise bad


def test_members_that_are_apart_are_named(write_tar, png):
    path = write_tar(
        "a.tar", [("k.png", png()), ("l.png", png()), ("l.txt", b"a"), ("k.txt", b"a")]
    )
    reasons = [e.reason for e in entries(path) if isinstance(e, StripDecodeError)]
    assert reasons == [
        "sample 'k': has no label (.cls, .json, .txt)",
        "sample 'k': its members are not next to each other, or the key is used twice",
    ]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_link_is_no_image(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("k.png")
        link.type, link.linkname = kind, "../../secret.png"
        tar.addfile(link)
        label = tarfile.TarInfo("k.txt")
        tar.addfile(label)
    assert "k.png is a link or sparse" in only_error(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"this is no tar file\n" * 100, "not a tar file"),
        (b"x", "not a tar file"),
        (gzip.compress(bytes(10_240), mtime=0), r"is compressed \(gzip\); unpack it"),
    ],
)
def test_what_is_no_tar_file_says_so(tmp_path, content, reason):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(StripDecodeError, match=rf"a\.tar: {reason}"):
        StripShards(tmp_path / "a.tar")


def test_tar_file_without_samples_says_so(tmp_path, write_tar):
    (tmp_path / "zeros.tar").write_bytes(bytes(4096))
    for path in (tmp_path / "zeros.tar", write_tar("empty.tar", [])):
        with pytest.raises(StripDecodeError, match="holds no samples"):
            StripShards(path)


@pytest.fixture
def three(write_tar, png):
    """A shard of three samples."""
    members = [
        (f"{key}.{ending}", png() if ending == "png" else b"a")
        for key in "123"
        for ending in ("png", "txt")
    ]
    return write_tar("a.tar", members)


def test_every_cut_is_noticed(three):
    whole = three.read_bytes()
    end = len(whole.rstrip(b"\0"))
    end += -end % 512  # of the last member
    for length in range(0, end + 512, 100):
        three.write_bytes(whole[:length])
        with pytest.raises(StripDecodeError, match=r"a\.tar: "):
            StripShards(three)
    three.write_bytes(whole[: end + 512])
    assert len(StripShards(three)) == 3


def test_cut_between_two_members_names_the_last_sample_before_it(three):
    with tarfile.open(three) as tar:
        end_of_second = tar.getmembers()[4].offset
    three.write_bytes(three.read_bytes()[:end_of_second])
    first, error = entries(three)
    assert first.key == "1"
    assert "was cut off in or after sample '2' (the end mark is missing)" in error.reason


def test_damaged_header_is_not_taken_for_the_end(three):
    content = bytearray(three.read_bytes())
    with tarfile.open(three) as tar:
        third = tar.getmembers()[4].offset
    content[third + 150] ^= 0xFF  # in the checksum
    three.write_bytes(content)
    first, error = entries(three)
    assert first.key == "1"
    assert f"is damaged or was cut off in or after sample '2' (bad header at byte {third}" in (
        error.reason
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=12))
def test_whatever_the_damage_the_outcome_is_samples_or_errors(damaged, changes):
    content = bytearray(damaged.read_bytes())
    for place, value in changes:
        content[place] = value
    path = damaged.with_name("b.tar")
    path.write_bytes(content)
    for entry in entries(path):
        if not isinstance(entry, StripDecodeError):
            assert entry.width > 0


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A small shard of two samples in 4,096 bytes, and room for damaged copies beside it."""
    path = tmp_path_factory.mktemp("damaged") / "a.tar"
    image = io.BytesIO()
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(image, format="PNG")
    with tarfile.open(path, "w") as tar:
        for key in "12":
            for ending, content in (("png", image.getvalue()), ("txt", b"a")):
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def test_damaged_pixels_raise_when_asked_for(write_tar, png):
    content = png(200)
    members = [("1.png", content[: len(content) // 2]), ("1.txt", b"a"), ("2.png", content)]
    strips = StripShards(write_tar("a.tar", [*members, ("2.txt", b"a")]))
    assert strips[1][0].shape == (1, 28, 200)
    with pytest.raises(StripDecodeError, match=r"a\.tar: sample '1': can't be decoded"):
        strips[0]
