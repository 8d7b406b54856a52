import itertools
import tracemalloc
import weakref

import numpy as np
import pytest
import torch

from fastrnn.data import StripArrays, StripDecodeError, StripDigits
from fastrnn.data.shard_stream import ShardStream
from fastrnn.data.shard_writing import write_shards
from fastrnn.data.shards import StripShards


@pytest.fixture(scope="module")
def digits():
    return StripDigits("test", size=40)


@pytest.fixture(scope="module", params=["tar", "npz"])
def folder(request, digits, tmp_path_factory):
    """A folder of the digits in four shards."""
    path = tmp_path_factory.mktemp("data") / "shards"
    write_shards(digits, path, format=request.param, max_strips=12)
    return path


def contents(stream, shuffle=True):
    batches = stream.batches(max_padded_steps=1500, shuffle=shuffle)
    return [batch.indices.tolist() for batch in batches]


def test_strips_come_in_the_order_of_the_shards(folder, digits):
    stream = ShardStream(folder)
    assert (len(stream), stream.labels) == (40, digits.labels)
    for (strip, target), (expected, number) in zip(stream, digits, strict=True):
        assert strip.dtype == torch.uint8
        assert (strip == expected).all()
        assert target == number


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("buffer", [0, 1, 17])
def test_batches_hold_every_strip_once_within_the_budget(folder, digits, buffer, shuffle):
    seen = []
    stream = ShardStream(folder, shuffle_buffer=buffer, seed=3)
    for batch in stream.batches(max_padded_steps=1500, shuffle=shuffle):
        assert len(batch) == 1 or len(batch) * int(batch.lengths.max()) <= 1500
        assert batch.targets.tolist() == digits.targets[batch.indices.numpy()].tolist()
        for strip, length, index in zip(batch.strips, batch.lengths, batch.indices, strict=True):
            assert (strip[..., :length] == digits[int(index)][0]).all()
            assert (strip[..., length:] == 0).all()
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(40))


def test_indices_put_predictions_back_where_they_belong(folder, digits):
    stream = ShardStream(folder, shuffle_buffer=9)
    for shuffle in (False, True):
        restored = np.full(len(stream), -5)
        for batch in stream.batches(max_padded_steps=1500, shuffle=shuffle):
            restored[batch.indices.numpy()] = batch.targets.numpy()
        assert restored.tolist() == digits.targets.tolist()


def test_without_shuffling_a_buffer_goes_from_short_to_long(folder, digits):
    stream = ShardStream(folder, shuffle_buffer=20)
    order = [index for batch in contents(stream, shuffle=False) for index in batch]
    for start in range(0, 40, 20):
        assert sorted(order[start : start + 20]) == list(range(start, start + 20))
        widths = digits.lengths[order[start : start + 20]].tolist()
        assert widths == sorted(widths)


def test_same_seed_and_epoch_same_batches_and_others_differ(folder):
    def stream(seed, epoch):
        return ShardStream(folder, shuffle_buffer=30, seed=seed, epoch=epoch)

    first = stream(0, 0)
    assert contents(first) == contents(first) == contents(stream(0, 0))
    later = stream(0, 0)
    later.epoch = 1
    assert contents(later) == contents(stream(0, 1))
    others = [contents(stream(seed, epoch)) for seed, epoch in ((0, 1), (1, 0), (1, 1))]
    assert all(other != contents(first) for other in others)
    assert len({str(other) for other in others}) == 3


def test_shuffled_strips_come_once_each_from_shards_in_random_order(folder, digits):
    number_of = {digits[index][0].numpy().tobytes(): index for index in range(40)}

    def order(**options):
        stream = ShardStream(folder, **options)
        return [number_of[strip.numpy().tobytes()] for strip, _ in stream]

    shuffled = order(shuffle_buffer=10, seed=1)
    assert sorted(shuffled) == list(range(40))
    assert shuffled == order(shuffle_buffer=10, seed=1)
    assert shuffled != order(shuffle_buffer=10, seed=1, epoch=1)
    first = {order(shuffle_buffer=1, seed=seed)[0] for seed in range(5)}
    assert len(first) > 1
    assert first <= {0, 12, 24, 36}  # where the shards begin
    near = [abs(a - b) == 1 for a, b in itertools.pairwise(shuffled)]
    assert np.mean(near) < 0.3


def test_two_iterations_side_by_side_do_not_disturb_each_other(folder):
    stream = ShardStream(folder, shuffle_buffer=10)
    pairs = zip(
        stream.batches(max_padded_steps=1500, shuffle=True),
        stream.batches(max_padded_steps=1500, shuffle=True),
        strict=True,
    )
    assert all(a.indices.tolist() == b.indices.tolist() for a, b in pairs)


class TestMemory:
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_no_more_strips_are_alive_than_the_buffer_and_those_on_the_way(
        self, folder, monkeypatch, shuffle
    ):
        stream = ShardStream(folder, shuffle_buffer=8)
        live = LiveArrays()
        for shard in stream._shards:
            monkeypatch.setattr(shard, "read", live.watching(shard.read))
        for _ in stream.batches(max_padded_steps=900, shuffle=shuffle):
            pass
        assert 8 <= live.most <= 8 + 1
        live.most = 0
        for _ in stream:
            pass
        assert 8 <= live.most <= 8 + 2

    def test_peak_does_not_grow_with_the_data(self, tmp_path):
        def peak(count):
            strips = StripArrays(
                [np.full((100, 1000), k, np.uint8) for k in range(count)], [0] * count
            )
            write_shards(strips, tmp_path / str(count), format="npz", max_strips=20)
            del strips
            tracemalloc.start()
            stream = ShardStream(tmp_path / str(count), height=100, shuffle_buffer=10)
            seen = sum(len(b) for b in stream.batches(max_padded_steps=2000, shuffle=True))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert seen == count
            return most

        few, many = peak(20), peak(200)  # 2 MB and 20 MB of pixels
        assert many < 1.2 * few
        assert many < 2 * 10 * 100_000 + 2_000_000


class LiveArrays:
    """Counts the arrays that a function has made and that are still alive."""

    def __init__(self):
        self._alive = weakref.WeakValueDictionary()
        self.most = 0

    def watching(self, function):
        def watched(*args, **kwargs):
            array = function(*args, **kwargs)
            self._alive[id(array)] = array
            self.most = max(self.most, len(self._alive))
            return array

        return watched


def test_skip_leaves_out_bad_samples_and_keeps_the_numbers_of_the_others(write_tar, png, tmp_path):
    cut = png()
    one = [("1.png", png(60)), ("1.txt", b"a")]
    write_tar("a.tar", [("0.png", cut[: len(cut) // 2]), ("0.txt", b"a"), *one])
    (tmp_path / "b.tar").write_bytes(b"no tar")
    write_tar("c.tar", [("0.png", png()), *one, ("2.png", png(70)), ("2.txt", b"z")])
    stream = ShardStream(tmp_path, labels=["a"], on_error="skip")
    assert len(stream) == 6
    for _ in range(2):  # the second time lists nothing anew
        assert contents(stream, shuffle=False) == [[1, 4]]
        assert [(path.name, reason.split(" (")[0]) for path, reason in stream.skipped] == [
            ("a.tar", "sample '0': can't be decoded"),
            ("b.tar", "not a tar file"),
            ("c.tar", "sample '0': has no label"),
            ("c.tar", "sample '2': label 'z' is not among 'a'"),
        ]
    same = StripShards(tmp_path, labels=["a"], on_error="skip")
    assert same.positions.tolist() == [1, 4]
    assert same.skipped == stream.skipped


def test_headers_are_checked_before_any_work(write_tar, png, tmp_path):
    good = [("0.png", png()), ("0.txt", b"a")]
    write_tar("a.tar", good)
    bad = write_tar("b.tar", [("1.txt", b"a")])
    with pytest.raises(StripDecodeError, match=r"b\.tar: sample '1': has no image"):
        ShardStream(tmp_path)
    with pytest.raises(ValueError, match=r"no sample is good; the first: .*b\.tar: sample '1'"):
        ShardStream(bad, on_error="skip")
    write_tar("b.tar", [*good, ("1.png", png()), ("1.txt", b"z")])
    with pytest.raises(StripDecodeError, match=r"b\.tar: sample '1': label 'z' is not among 'a'"):
        ShardStream(tmp_path, labels=["a"])


def test_damaged_pixels_raise_when_they_are_met(write_tar, png):
    cut = png()
    members = [("0.png", png()), ("0.txt", b"a"), ("1.png", cut[: len(cut) // 2]), ("1.txt", b"a")]
    strips = iter(ShardStream(write_tar("a.tar", members)))
    next(strips)
    with pytest.raises(StripDecodeError, match=r"a\.tar: sample '1': can't be decoded"):
        next(strips)


def test_wrong_pixel_in_an_npz_shard_is_met(tmp_path, noise):
    np.savez(tmp_path / "a.npz", strips=noise(9000, 1, 28), lengths=[9000], targets=[0])
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[100_000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    stream = ShardStream(tmp_path)
    with pytest.raises(StripDecodeError, match=r"sample '0': the shard is damaged \(Bad CRC"):
        list(stream)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shuffle_buffer": -1}, ValueError, "shuffle_buffer is -1, but must be at least 0"),
        ({"seed": -1}, ValueError, "seed is -1, but must be at least 0"),
        ({"epoch": 1.5}, TypeError, "epoch is 1.5, but must be an integer"),
        ({"on_error": "ignore"}, ValueError, "on_error is 'ignore'"),
    ],
)
def test_wrong_options_are_named(folder, options, error, message):
    with pytest.raises(error, match=message):
        ShardStream(folder, **options)


def test_wrong_budget_is_named_at_once(folder):
    with pytest.raises(ValueError, match="max_padded_steps is 0, but must be at least 1"):
        ShardStream(folder).batches(max_padded_steps=0, shuffle=True)
