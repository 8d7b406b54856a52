import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fastrnn.data import StripArrays, StripDigits, StripSubset
from fastrnn.models import StripClassifier
from fastrnn.reports import REPORT_FILES, write_run_report
from fastrnn.reports.facts import run_facts
from fastrnn.reports.mistakes import Mistake
from fastrnn.reports.page import RunReport, render
from fastrnn.training import (
    Trainer,
    TrainingConfig,
    TrainingResult,
    evaluate,
    predict_probabilities,
)

CONFIG = TrainingConfig(epochs=2, learning_rate=8e-3, max_padded_steps=6000)
STRANGE = ("<b>&", '"$x$"', "</table><script>alert(1)</script>")


@pytest.fixture(scope="module")
def strips() -> StripArrays:
    """Strips of three classes with names that are no HTML."""
    digits = StripDigits("train", size=120)
    chosen = [i for i in range(120) if digits.targets[i] < 3]
    return StripArrays(
        [digits[i][0].numpy() for i in chosen], digits.targets[chosen], labels=STRANGE
    )


@pytest.fixture(scope="module")
def trained(strips) -> tuple[StripClassifier, TrainingResult, StripSubset, StripSubset]:
    torch.manual_seed(0)
    model = StripClassifier(1, 28, 3, hidden_size=6, labels=STRANGE)
    train, validation = StripSubset(strips, range(24)), StripSubset(strips, range(24, len(strips)))
    result = Trainer(model, CONFIG, progress=False).fit(train, validation)
    return model, result, train, validation


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, result, train, validation = trained
    folder = tmp_path_factory.mktemp("runs") / "run"
    return write_run_report(folder, model, result, train, validation, CONFIG)


def test_a_folder_that_tells_of_the_training(trained, page: Path) -> None:
    model, _, _, validation = trained
    assert page.name == "report.html"
    assert {path.name for path in page.parent.iterdir()} == set(REPORT_FILES)
    for name in ("curves", "confusion", "mistakes"):
        with Image.open(page.with_name(f"{name}.png")) as picture:
            assert np.asarray(picture).std() > 0
    text = page.read_text()
    accuracy = evaluate(model, validation).accuracy
    assert f"{accuracy:.1%} of {len(validation)} validation strips right" in text
    assert text.count("<img ") == text.count('<img alt="') == 3
    assert text.count("<table>") == text.count("<caption>") == 7


def test_the_page_needs_no_network_and_takes_no_class_name_for_html(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"<script|https?:|url\(|<link", text)
    assert re.findall(r'src="(.{15})', text) == ["data:image/png;"] * 3
    assert "<b>" not in text
    assert "&lt;b&gt;&amp;" in text
    assert "&lt;/table&gt;&lt;script&gt;" in text


def test_the_settings_are_all_there(trained, page: Path) -> None:
    model, _, _, validation = trained
    facts = json.loads(page.with_name("run.json").read_text())
    assert TrainingConfig(**facts["training"]) == CONFIG
    assert facts["model"]["settings"]["hidden_size"] == 6
    assert facts["model"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["data"]["train"]["number of strips"] == 24
    counts = np.bincount(validation.targets, minlength=3).tolist()
    told = facts["data"]["validation"]["strips of each class"]
    assert told == dict(zip(STRANGE, counts, strict=True))
    assert facts["result"]["last_epoch"]["epoch"] == 2
    assert facts["versions"]["torch"] == torch.__version__


class Means(nn.Module):
    """A model that is no bundle: no settings, no attention."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(1, 3)

    def forward(self, strips: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.output(strips.float().mean((1, 2, 3))[:, None] / 255)


def test_without_validation_the_page_says_so_and_no_old_picture_stays(
    trained, tmp_path: Path
) -> None:
    train, model = trained[2], Means()
    (tmp_path / "confusion.png").write_bytes(b"of an earlier report")
    result = Trainer(model, CONFIG, progress=False).fit(train)
    text = write_run_report(tmp_path, model, result, train, None, CONFIG).read_text()
    assert "no validation strips" in text
    assert "Training of a Means" in text
    counts = np.bincount(train.targets, minlength=3)
    assert f'&lt;b&gt;&amp;</th><td class="number">{counts[0]}</td>' in text
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "report.html", "run.json"}
    assert json.loads((tmp_path / "run.json").read_text())["data"]["validation"] is None


def test_a_model_without_mistakes_and_without_attention(trained, tmp_path: Path) -> None:
    (_, result, train, validation), model = trained, Means()
    predicted = predict_probabilities(model, validation).argmax(1).numpy()
    easy = StripSubset(validation, range(len(validation)), targets=predicted)
    text = write_run_report(tmp_path, model, result, train, easy, CONFIG).read_text()
    assert f"None: all {len(easy)} validation strips are right." in text
    assert not (tmp_path / "mistakes.png").exists()


@pytest.mark.parametrize("in_files", [False, True])
def test_mistakes_can_be_found_again(trained, in_files: bool) -> None:
    model, result, train, validation = trained
    mistakes = [Mistake(7, "a", "b", 0.9, "ann/<1>.png" if in_files else None)]
    report = RunReport(
        facts=run_facts(model, result, train, validation, CONFIG),
        history=result.history,
        evaluation=evaluate(model, validation),
        mistakes=mistakes,
        pictures={"curves": b"", "confusion": b"", "mistakes": b""},
        files=Path("my/strips") if in_files else None,
    )
    text = render(report)
    caption = "Files, in my/strips" if in_files else "Position among the validation strips"
    assert f"<caption>{caption}</caption>" in text
    name = "ann/&lt;1&gt;.png" if in_files else "strip 7"
    assert text.count(name) == 2  # in the table, and in words beside the picture
    assert ("strip 7" in text) != in_files


def test_a_single_mistake_and_a_single_epoch_are_one(trained) -> None:
    model, result, train, validation = trained
    report = RunReport(
        facts=run_facts(model, result, train, validation, CONFIG),
        history=result.history[:1],
        evaluation=evaluate(model, validation),
        mistakes=[Mistake(index=4, true="a", predicted="b", probability=0.9)],
        pictures={"curves": b"", "confusion": b"", "mistakes": b""},
    )
    page = render(report)
    assert "The validation strip that the model is surest of and wrong about" in page
    assert "learning rate over 1 epoch." in page


@pytest.mark.parametrize("patience", [None, 3])
def test_early_stopping_is_said_to_flatter(trained, patience: int | None) -> None:
    model, result, train, validation = trained
    config = dataclasses.replace(CONFIG, patience=patience)
    report = RunReport(
        facts=run_facts(model, result, train, validation, config),
        history=result.history,
        evaluation=evaluate(model, validation),
        mistakes=[],
        pictures={"curves": b"", "confusion": b""},
    )
    assert ("a little too good" in render(report)) == (patience is not None)


def test_nothing_to_report(trained, tmp_path: Path) -> None:
    model, _, train, validation = trained
    empty = TrainingResult(history=(), best_epoch=None, stopped_by="interrupt", checkpoint=None)
    with pytest.raises(ValueError, match="no finished epoch"):
        write_run_report(tmp_path / "run", model, empty, train, validation, CONFIG)
    assert not (tmp_path / "run").exists()
