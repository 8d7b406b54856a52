from pathlib import Path

import pytest
import torch
from PIL import Image

from fastrnn.data import StripCache, StripDigits, StripFiles, StripSubset
from fastrnn.models import StripClassifier
from fastrnn.reports.mistakes import (
    attention_along,
    picture_mistakes,
    with_files,
    worst_mistakes,
)

PROBABILITIES = torch.tensor([[0.7, 0.3], [0.1, 0.9], [0.4, 0.6], [0.2, 0.8], [0.05, 0.95]])
TARGETS = torch.tensor([1, 0, 1, 0, 1])


def test_the_surest_mistake_comes_first() -> None:
    found = worst_mistakes(PROBABILITIES, TARGETS, ["a", "b"], most=10)
    assert [mistake.index for mistake in found] == [1, 3, 0]
    assert (found[0].true, found[0].predicted) == ("a", "b")
    assert found[0].probability == pytest.approx(0.9)
    assert worst_mistakes(PROBABILITIES, TARGETS, ["a", "b"], most=2) == found[:2]


@pytest.fixture
def files(tmp_path: Path) -> StripFiles:
    """Strips in the files ann/0.png, bob/0.png and one with a long name."""
    paths = [tmp_path / name for name in ("ann/0.png", "bob/0.png", f"bob/{'x' * 90}.png")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (40, 28), 90).save(path)
    return StripFiles(paths, targets=[1, 0, 1], labels=["a", "b"])


def test_the_file_of_a_strip_is_named_whatever_view_it_is_in(files, tmp_path) -> None:
    view = StripCache(StripSubset(files, [2, 0, 1]))
    mistakes = worst_mistakes(PROBABILITIES[:3], torch.tensor([1, 0, 0]), ["a", "b"], most=3)
    assert [mistake.index for mistake in mistakes] == [1, 0, 2]
    folder, named = with_files(view, mistakes)
    assert folder == tmp_path
    assert [mistake.name for mistake in named] == ["ann/0.png", f"bob/{'x' * 90}.png", "bob/0.png"]
    model = StripClassifier(1, 28, 2, hidden_size=4)
    titles = [picture.title for picture in picture_mistakes(model, view, named)]
    assert titles[0] == "ann/0.png: a, taken for b (90% sure)"
    assert titles[1].startswith("…xxx")
    assert titles[1].partition(":")[0].endswith("xxx.png")
    assert len(titles[1].partition(":")[0]) == 60


def test_without_files_positions_remain(files) -> None:
    digits = StripDigits("test", size=2)
    mistakes = worst_mistakes(torch.eye(10)[[5, 5]], torch.tensor([0, 1]), digits.labels, most=2)
    assert with_files(digits, mistakes) == (None, mistakes)
    assert mistakes[1].name == "strip 1"


def test_no_mistakes() -> None:
    assert worst_mistakes(PROBABILITIES, PROBABILITIES.argmax(1), ["a", "b"], most=3) == []


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_the_attention_is_shown_where_the_model_has_one(pooling: str) -> None:
    digits = StripDigits("test", size=3)
    model = StripClassifier(1, 28, 10, hidden_size=4, pooling=pooling).train()
    mistakes = worst_mistakes(torch.eye(10)[[5, 5]], torch.tensor([0, 1]), digits.labels, most=2)
    first, second = picture_mistakes(model, digits, mistakes)
    assert first.title == "strip 0: 0, taken for 5 (100% sure)"
    assert second.strip.shape == digits[1][0].shape
    if pooling == "attention":
        assert second.attention.shape == (digits.lengths[1],)
        assert second.attention.sum() == pytest.approx(1, rel=1e-5)
    else:
        assert second.attention is None
    assert model.training


def test_a_model_that_sees_windows_has_no_attention_along_the_strip() -> None:
    model = StripClassifier(1, 28, 10, hidden_size=4)
    strip, _ = StripDigits("test", size=1)[0]
    assert attention_along(model, strip) is not None
    model = StripClassifier(1, 28, 10, hidden_size=4, window_size=64, window_stride=32)
    assert attention_along(model, strip) is None


def test_a_model_that_knows_no_attention() -> None:
    class Plain(torch.nn.Module):
        def forward(self, strips, lengths=None):
            return strips.float().mean((1, 2, 3))[:, None]

    assert attention_along(Plain(), torch.zeros(1, 4, 9, dtype=torch.uint8)) is None
