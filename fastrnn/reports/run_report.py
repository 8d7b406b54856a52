"""The report about a training that a person opens."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import nn

from fastrnn.data import StripDataset
from fastrnn.plots import draw_confusion, draw_curves, draw_strips
from fastrnn.reports.facts import run_facts
from fastrnn.reports.mistakes import Mistake, picture_mistakes, with_files, worst_mistakes
from fastrnn.reports.page import RunReport, render
from fastrnn.training.checkpoint import prepare_folder, write_atomically
from fastrnn.training.config import TrainingConfig
from fastrnn.training.evaluation import Evaluation, predict_logits, score_logits
from fastrnn.training.history import TrainingResult

FACTS_NAME = "run.json"  # not config.json: that name is a saved model's
PAGE_NAME = "report.html"
_PICTURES = ("curves", "confusion", "mistakes")
REPORT_FILES = (FACTS_NAME, PAGE_NAME, *(f"{name}.png" for name in _PICTURES))

_MOST_MISTAKES = 12


def write_run_report(
    folder: str | os.PathLike[str],
    model: nn.Module,
    result: TrainingResult,
    train: StripDataset,
    validation: StripDataset | None,
    config: TrainingConfig,
) -> Path:
    """Write what a training was and what came out, for a person to open.

    The folder then holds ``report.html``, one page that needs no network, with a summary, curves,
    scores of each class, the confusion matrix, the worst mistakes and all settings; its pictures
    ``curves.png``, ``confusion.png`` and ``mistakes.png``; and ``run.json`` with the settings of
    training and model, a summary of the data, versions and machine. Those of an earlier report
    are replaced. The model is evaluated on the validation strips once more.

    Parameters
    ----------
    folder
        Where to write, best the training's output folder; made if missing.
    model
        The trained model.
    result
        What `Trainer.fit` returned, with at least one epoch.
    train, validation
        The strips it was trained and judged on; without validation there is no picture of the
        confusion and of mistakes, and the page says so.
    config
        The settings it was trained with.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    ValueError
        If no epoch was finished, or the folder can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.data import StripDigits
    >>> from fastrnn.models import StripClassifier
    >>> from fastrnn.training import Trainer
    >>> strips, config = StripDigits("train", size=40), TrainingConfig(epochs=1)
    >>> model = StripClassifier(1, 28, 10, hidden_size=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = Trainer(model, config, out_dir=folder, progress=False).fit(strips)
    ...     write_run_report(folder, model, result, strips, None, config).name
    'report.html'
    """
    if not result.history:
        raise ValueError("result has no finished epoch, so there is nothing to report")
    folder = prepare_folder(folder)
    for name in _PICTURES:  # an old confusion matrix beside a report that has none would mislead
        (folder / f"{name}.png").unlink(missing_ok=True)
    draw_curves(folder / "curves.png", result.history, best_epoch=result.best_epoch)
    evaluation, mistakes, files = None, list[Mistake](), None
    if validation is not None:
        evaluation, mistakes = _judge(folder, model, validation, config)
        files, mistakes = with_files(validation, mistakes)
        if mistakes:
            draw_strips(folder / "mistakes.png", picture_mistakes(model, validation, mistakes))
    pictures = {name: folder / f"{name}.png" for name in _PICTURES}
    report = RunReport(
        facts=run_facts(model, result, train, validation, config),
        history=result.history,
        evaluation=evaluation,
        mistakes=mistakes,
        files=files,
        pictures={name: path.read_bytes() for name, path in pictures.items() if path.exists()},
    )
    text = json.dumps(report.facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / FACTS_NAME, lambda file: file.write(text.encode()))
    page = render(report).encode()
    write_atomically(folder / PAGE_NAME, lambda file: file.write(page))
    return folder / PAGE_NAME


def _judge(
    folder: Path, model: nn.Module, validation: StripDataset, config: TrainingConfig
) -> tuple[Evaluation, list[Mistake]]:
    """Evaluate the model, draw the confusion matrix, and find the worst mistakes."""
    logits = predict_logits(model, validation, max_padded_steps=config.max_padded_steps)
    targets = torch.as_tensor(validation.targets)
    evaluation = score_logits(logits, targets, validation.labels)
    mistakes = worst_mistakes(logits.softmax(1), targets, validation.labels, _MOST_MISTAKES)
    draw_confusion(
        folder / "confusion.png",
        evaluation.confusion,
        evaluation.labels,
        title=f"{evaluation.accuracy:.1%} of {len(validation):,} validation strips right",
    )
    return evaluation, mistakes
