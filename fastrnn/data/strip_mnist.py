"""StripMNIST: long strips of handwritten digits among clutter."""

import os
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import natural_int
from fastrnn.data.composition import DIGIT, DigitStrips, Task, check_size, check_split, check_task
from fastrnn.data.download import cache_folder, download
from fastrnn.data.idx import read_idx

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_PREFIX = {"train": "train", "test": "t10k"}
_COUNT = {"train": 60_000, "test": 10_000}


class StripMNIST(DigitStrips):
    """Grey strips of 28 x W, W in 140..420, made from the MNIST digits [1]_.

    A strip shows one digit at a uniform offset and, per 280 columns, eight 8 x 8 crops of other
    digits of the same split as clutter, all combined by maximum. Strip ``i`` shows digit ``i`` of
    the split and depends on ``(seed, split, task, i)`` only. The targets are the digits.

    With ``task="first"`` a strip shows two to six whole digits side by side, and the target is the
    first one, from the left: which digits there are does not tell it, their order does.

    Parameters
    ----------
    root
        Folder with the four files ``train-images-idx3-ubyte.gz``, ... By default
        ``$FASTRNN_DATA/mnist`` if that variable is set, otherwise ``~/.cache/fastrnn/mnist`` (or
        the same under ``$XDG_CACHE_HOME``).
    split
        "train" (60,000 strips) or "test" (10,000).
    size
        Take the first so many digits; all by default.
    seed
        Another one gives other strips of the same digits.
    task
        "find": one digit, to be found among the clutter. "first": two to six digits, of which the
        first one counts; it is digit ``i`` of the split, the others are drawn from the split.
    download
        Fetch the two files of the split if they are not there.

    Raises
    ------
    FileNotFoundError
        If files are missing and ``download`` is False.
    ConnectionError
        If they can't be downloaded; names the mirrors that were tried.
    ValueError
        If a file is damaged, or an argument is wrong.

    References
    ----------
    .. [1] Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits.

    Examples
    --------
    >>> strips = StripMNIST(split="test", size=100)  # doctest: +SKIP
    >>> strip, target = strips[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: Literal["train", "test"] = "train",
        *,
        size: int | None = None,
        seed: int = 0,
        task: Task = "find",
        download: bool = True,
    ) -> None:
        number = check_split(split)
        check_task(task)
        key = (natural_int("seed", seed), number)
        size = check_size(size, default=_COUNT[split])
        if size > _COUNT[split]:
            raise ValueError(f"size is {size}, but the {split} split has {_COUNT[split]} digits")
        self.root = mnist_folder() if root is None else Path(root)
        images, targets = (self.root / name for name in _file_names(split))
        _require(split, (images, targets), may_download=download)
        digits = _read_digits(split, images)
        super().__init__(digits, _read_targets(split, targets), size=size, key=key, task=task)


def mnist_folder() -> Path:
    """Where `StripMNIST` looks for the MNIST files if it isn't told."""
    data = os.environ.get("FASTRNN_DATA")
    return (Path(data) if data else cache_folder()) / "mnist"


def _file_names(split: str) -> tuple[str, str]:
    prefix = _PREFIX[split]
    return f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"


def _require(split: str, files: tuple[Path, Path], *, may_download: bool) -> None:
    for path, read in zip(files, (_read_digits, _read_targets), strict=True):
        if path.exists():
            continue
        if not may_download:
            raise FileNotFoundError(
                f"{path} does not exist; put the MNIST files there, "
                "set FASTRNN_DATA to the folder that holds mnist/, or allow download"
            )
        try:
            download([mirror + path.name for mirror in MIRRORS], path, check=partial(read, split))
        except ConnectionError as error:
            raise ConnectionError(
                f"{error}. Without a network, put the MNIST files into {path.parent}, "
                "or set FASTRNN_DATA to the folder that holds mnist/"
            ) from error


def _read_digits(split: str, path: Path) -> NDArray[np.uint8]:
    digits = read_idx(path)
    expected = (_COUNT[split], DIGIT, DIGIT)
    if digits.shape != expected:
        raise ValueError(f"{path} has shape {digits.shape}, but must have {expected}")
    return digits


def _read_targets(split: str, path: Path) -> NDArray[np.uint8]:
    targets = read_idx(path)
    if targets.shape != (_COUNT[split],) or targets.max() > 9:
        raise ValueError(
            f"{path} has shape {targets.shape} and values up to {targets.max(initial=0)}, "
            f"but must have {_COUNT[split]} digits 0..9"
        )
    return targets
