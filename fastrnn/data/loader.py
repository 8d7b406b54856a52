"""Batches that are made ahead of time by other processes."""

import multiprocessing
import pickle
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fastrnn.data.batching import StripBatch, StripBatches, collate
from fastrnn.data.checks import natural_int, positive_int


def prefetched(
    batches: StripBatches, num_workers: int = 0, prefetch: int = 2
) -> Iterator[StripBatch]:
    """Iterate over batches that worker processes read and decode while others are in use.

    The batches are the same, in the same order, whatever the number of workers, and torch's
    random numbers are left alone. It pays where reading a batch takes a good part of the time of
    a training step, as with image files that are decoded on the fly and a model on a GPU.

    Workers are forked where the system can, so a dataset isn't copied; what they change in one is
    lost with them, except for `StripCache`: its memory is shared, so that what a worker reads is
    there for all later ones. They end with the iteration, also when it is given up or interrupted.

    Parameters
    ----------
    batches
        What `strip_batches` made.
    num_workers
        Processes; 0 makes each batch when it is asked for. They start anew in each iteration,
        which takes some hundredths of a second.
    prefetch
        Batches that each worker makes ahead, at least 1. They wait in shared memory (``/dev/shm``).

    Returns
    -------
    Iterator of StripBatch
        As ``iter(batches)``.

    Raises
    ------
    ValueError, TypeError
        If an argument is wrong, at once.
    Exception
        Whatever reading a strip raises, when its batch is asked for, as for instance a
        `StripDecodeError` with the file's path; where it was raised is in its notes.

    Examples
    --------
    >>> from fastrnn.data import StripDigits, strip_batches
    >>> batches = strip_batches(StripDigits("test"), max_padded_steps=16_384, shuffle=True)
    >>> sum(len(batch) for batch in prefetched(batches, num_workers=1))
    500
    """
    num_workers = natural_int("num_workers", num_workers)
    prefetch = positive_int("prefetch", prefetch)
    return _from_workers(batches, num_workers, prefetch) if num_workers else iter(batches)


@dataclass(frozen=True)
class _Failure:
    """What a worker sends instead of a batch."""

    error: Exception


class _Collated(Dataset[StripBatch | _Failure]):
    """The batches by their number."""

    def __init__(self, batches: StripBatches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> StripBatch | _Failure:
        try:
            return collate(self.batches.dataset, self.batches.plan[number])
        except Exception as error:
            if not _survives_pickling(error):
                raise  # torch makes it a RuntimeError with the text of it
            error.add_note("".join(traceback.format_exception(error)))
            return _Failure(error)


def _survives_pickling(error: Exception) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:
        return False


def _from_workers(batches: StripBatches, num_workers: int, prefetch: int) -> Iterator[StripBatch]:
    methods = multiprocessing.get_all_start_methods()
    loader = DataLoader(
        _Collated(batches),
        batch_size=None,
        num_workers=min(num_workers, max(1, len(batches))),
        prefetch_factor=prefetch,
        collate_fn=_as_it_is,
        worker_init_fn=_ignore_interrupts,
        multiprocessing_context="fork" if "fork" in methods else None,
        generator=torch.Generator(),  # otherwise torch's own one is asked for a seed
    )
    with warnings.catch_warnings():
        # From Python 3.12 on; a worker runs on one thread, and does nothing but read strips.
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        made = iter(loader)
    try:
        for batch in made:
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch
    finally:
        # At once, even if somebody keeps an exception whose traceback holds the iterator.
        made._shutdown_workers()  # type: ignore[attr-defined]


def _as_it_is(batch: Any) -> Any:
    return batch


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the process that started the worker, and that ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
