"""StripDigits: strips made from scikit-learn's bundled digits, for use without any download."""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastrnn.data.checks import natural_int
from fastrnn.data.composition import DIGIT, DigitStrips, Task, check_size, check_split, check_task
from fastrnn.data.splits import stratified_split

_TEST_DIGITS = 500  # of 1,797


class StripDigits(DigitStrips):
    """Grey strips of 28 x W, W in 140..420, made from scikit-learn's 1,797 digits [1]_.

    The same composition as `StripMNIST`, of 8 x 8 digits scaled to 28 x 28. 1,297 digits are for
    training and 500 for testing, whatever the seed: no digit is in both. Strip ``i`` shows digit
    ``i % D`` of the split's ``D`` digits, so more strips than digits can be made, with new offsets
    and new clutter.

    Parameters
    ----------
    split
        "train" or "test".
    size
        Number of strips; by default as many as there are digits.
    seed
        Another one gives other strips of the same digits.
    task
        "find" or "first", as for `StripMNIST`.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    ValueError
        If an argument is wrong.

    References
    ----------
    .. [1] E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.

    Examples
    --------
    >>> strips = StripDigits("test", size=1000)
    >>> strip, target = strips[0]
    >>> strip.dtype, tuple(strip.shape) == (1, 28, strips.lengths[0]), strips.labels[target]
    (torch.uint8, True, '0')
    """

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        *,
        size: int | None = None,
        seed: int = 0,
        task: Task = "find",
    ) -> None:
        number = check_split(split)
        check_task(task)
        key = (natural_int("seed", seed), number)
        digits, targets = _load_digits()
        test, train = stratified_split(targets, _TEST_DIGITS / len(targets), seed=0)
        mine = test if split == "test" else train
        size = check_size(size, default=len(mine))
        super().__init__(digits[mine], targets[mine], size=size, key=key, task=task)


@lru_cache(maxsize=1)
def _load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from PIL import Image

    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "StripDigits needs scikit-learn: pip install 'fastrnn[demo]'", name=error.name
        ) from error
    bundled = load_digits()
    small = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
    size = (DIGIT, DIGIT)
    digits = [np.asarray(Image.fromarray(d).resize(size, Image.Resampling.BICUBIC)) for d in small]
    return np.stack(digits), bundled.target.astype(np.int64)
