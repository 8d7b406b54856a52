"""Groups of strips that belong together, by the names of their files."""

import re
from pathlib import Path

import numpy as np

from fastrnn.data.augment import StripAugmented
from fastrnn.data.channels import StripChannels
from fastrnn.data.checks import IntArray
from fastrnn.data.dataset import StripDataset
from fastrnn.data.reading import FileStrips
from fastrnn.data.shards import StripShards
from fastrnn.data.views import StripCache, StripConcat, StripSubset, StripTruncate


def groups_by_path(dataset: StripDataset, pattern: str) -> IntArray:
    r"""Group strips by a part of their files' paths, such as a speaker's or a document's name.

    Parameters
    ----------
    dataset
        Strips from files or shards, or views of such.
    pattern
        A regular expression that is looked for in each path (with slashes; in shards the path of
        the shard, a slash and the strip's key). What its first parenthesis matches is the group.

    Returns
    -------
    numpy.ndarray
        int64 ``[N]``, for `group_split` and `group_k_fold`. Groups are numbered by their names in
        order.

    Raises
    ------
    ValueError
        If the pattern is wrong or has no parenthesis, a path doesn't match, or a strip has none.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from fastrnn.data import StripFiles
    >>> folder = tempfile.TemporaryDirectory()
    >>> paths = [Path(folder.name) / name for name in ("ann-1.png", "bob-1.png", "ann-2.png")]
    >>> for path in paths:
    ...     Image.new("L", (100, 28)).save(path)
    >>> groups_by_path(StripFiles(paths), r"([a-z]+)-\d+.png$").tolist()
    [0, 1, 0]
    >>> folder.cleanup()
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}") from error
    if not expression.groups:
        raise ValueError(f"pattern {pattern!r} has no parenthesis (...), which names the group")
    names = []
    for index in range(len(dataset)):
        path = strip_path(dataset, index).as_posix()
        match = expression.search(path)
        if match is None or match[1] is None:
            raise ValueError(f"pattern {pattern!r} finds no group in {path}")
        names.append(match[1])
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def strip_path(dataset: StripDataset, index: int) -> Path:
    """File of a strip, in a shard its path and the strip's key; ValueError if it has none."""
    if isinstance(dataset, FileStrips):
        return dataset.paths[index]
    if isinstance(dataset, StripShards):
        return Path(dataset.paths[dataset.shard_numbers[index]], dataset.keys[index])
    if isinstance(dataset, StripSubset):
        return strip_path(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, StripConcat):
        number, inside = dataset.place_of(index)
        return strip_path(dataset.datasets[number], inside)
    if isinstance(dataset, StripAugmented | StripCache | StripChannels | StripTruncate):
        return strip_path(dataset.dataset, index)
    raise ValueError(f"the strips of {dataset!r} are not in files, so they have no paths")
