"""Writing a dataset's strips into shards."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fastrnn.data.checks import positive_int
from fastrnn.data.dataset import UNLABELLED, StripDataset
from fastrnn.data.export import new_folder, write_png
from fastrnn.data.shard_samples import LABELS_FILE

_NPZ_OVERHEAD = 2048  # bytes of an NPZ file beside its arrays' contents, or less
_NPZ_BYTES_A_STRIP = 16  # length and target


def write_shards(
    dataset: StripDataset,
    folder: str | os.PathLike[str],
    *,
    format: Literal["tar", "npz"] = "tar",
    max_strips: int = 10_000,
    max_bytes: int = 1 << 30,
) -> tuple[Path, ...]:
    """Write every strip into one of several shards, in order.

    ``folder/strips-000000.tar`` is the first shard. In a tar shard strip 42 is ``00000042.png`` and
    ``00000042.json`` with its class name, ``{"label": "cat"}`` (null: unlabelled), the layout of
    WebDataset; for NPZ shards see `NpzShard`. ``folder/labels.json`` holds all class names in
    order. The same strips give the same bytes (with the same version of Pillow). The folder appears
    when all is written; never more than one strip is in memory.

    A `ShardStream` mixes strips within its buffer only, so strips to be trained on in this way
    should be written in random order: ``StripSubset(dataset, random.permutation(len(dataset)))``.

    Parameters
    ----------
    dataset
        The strips; for "tar" of one channel (grey) or three (RGB).
    folder
        Must not exist yet, or be empty.
    format
        "tar": PNG images, smaller files. "npz": pixels as they are, read without decoding.
    max_strips, max_bytes
        A shard is full with so many strips, or when the next would make its file larger. A strip
        that is larger alone gets a shard of its own.

    Returns
    -------
    tuple of pathlib.Path
        The shards.

    Raises
    ------
    FileExistsError
        If ``folder`` holds something already.
    ValueError, TypeError
        If the dataset is empty, its channels don't suit the format, or an argument is wrong.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards = write_shards(StripDigits("test", size=5), Path(folder) / "test", max_strips=2)
    >>> [shard.name for shard in shards]
    ['strips-000000.tar', 'strips-000001.tar', 'strips-000002.tar']
    """
    if format not in ("tar", "npz"):
        raise ValueError(f'format is {format!r}, but must be "tar" or "npz"')
    max_strips = positive_int("max_strips", max_strips)
    max_bytes = positive_int("max_bytes", max_bytes)
    if not len(dataset):
        raise ValueError("the dataset has no strips")
    if format == "tar" and dataset.channels not in (1, 3):
        raise ValueError(
            f"the strips have {dataset.channels} channels, but PNG images in tar shards need 1 "
            '(grey) or 3 (RGB); format="npz" takes any number'
        )
    folder = Path(folder)
    write = _write_tar_shards if format == "tar" else _write_npz_shards
    with new_folder(folder) as partial:
        shards = write(dataset, partial, max_strips, max_bytes)
        labels = json.dumps(dataset.labels, ensure_ascii=False)
        (partial / LABELS_FILE).write_text(labels + "\n", encoding="utf-8")
    return tuple(folder / shard.name for shard in shards)


def _write_tar_shards(
    dataset: StripDataset, folder: Path, max_strips: int, max_bytes: int
) -> list[Path]:
    paths: list[Path] = []
    first = index = 0
    members = _members(dataset, index)
    while index < len(dataset):
        first = index
        paths.append(folder / f"strips-{len(paths):06d}.tar")
        with tarfile.open(paths[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            while members and (index == first or _tar_size(tar, members) <= max_bytes):
                for name, content in members.items():
                    member = tarfile.TarInfo(name)  # its time and owner are 0
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                index += 1
                members = _members(dataset, index)
                if index - first == max_strips:
                    break
    return paths


def _members(dataset: StripDataset, index: int) -> dict[str, bytes]:
    """Files of a strip, none past the end."""
    if index == len(dataset):
        return {}
    strip, target = dataset[index]
    image = io.BytesIO()
    write_png(strip, image)
    label = None if target == UNLABELLED else dataset.labels[target]
    content = json.dumps({"label": label}, ensure_ascii=False).encode()
    return {f"{index:08d}.png": image.getvalue(), f"{index:08d}.json": content}


def _tar_size(tar: tarfile.TarFile, members: dict[str, bytes]) -> int:
    """Bytes of the file if these were its last members."""
    blocks = sum(1 + -(-len(content) // tarfile.BLOCKSIZE) for content in members.values())
    end = tar.offset + (blocks + 2) * tarfile.BLOCKSIZE
    return -(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _write_npz_shards(
    dataset: StripDataset, folder: Path, max_strips: int, max_bytes: int
) -> list[Path]:
    labels = np.array(dataset.labels, dtype=np.str_)
    per_strip = dataset.lengths * (dataset.channels * dataset.height) + _NPZ_BYTES_A_STRIP
    room = max_bytes - labels.nbytes - _NPZ_OVERHEAD
    paths: list[Path] = []
    first = 0
    while first < len(dataset):
        fitting = int(
            np.searchsorted(np.cumsum(per_strip[first : first + max_strips]), room, "right")
        )
        last = first + max(1, fitting)
        paths.append(folder / f"strips-{len(paths):06d}.npz")
        _write_npz(paths[-1], dataset, range(first, last), labels)
        first = last
    return paths


def _write_npz(path: Path, dataset: StripDataset, indices: range, labels: NDArray[np.str_]) -> None:
    part = slice(indices.start, indices.stop)
    lengths, targets = dataset.lengths[part], dataset.targets[part]
    shape = (int(lengths.sum()), dataset.channels, dataset.height)
    with zipfile.ZipFile(path, "w") as archive:  # each file in it is dated 1980
        with archive.open("strips.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for index in indices:
                strip = dataset[index][0].permute(2, 0, 1).contiguous()
                if len(strip) != dataset.lengths[index]:
                    raise ValueError(
                        f"strip {index} has {len(strip)} columns, but the dataset said "
                        f"{dataset.lengths[index]}; has its file changed?"
                    )
                file.write(strip.numpy().data)
        for name, array in (("lengths", lengths), ("targets", targets), ("labels", labels)):
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, array, allow_pickle=False)
