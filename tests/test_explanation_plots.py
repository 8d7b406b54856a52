import dataclasses

import numpy as np
import pytest
from PIL import Image

from fastrnn.deploy import FileExplanation
from fastrnn.explanation_plots import draw_explanation
from fastrnn.models import Explanation


def explained(rows=28, columns=300, channels=1, place=slice(150, 170), ground=0, **found):
    """An explanation whose heat and attention are at one place of a strip that is empty there."""
    picture = np.full((channels, rows, columns), ground, np.uint8)
    attribution = np.zeros((channels, rows, columns), np.float32)
    attribution[..., place] = 0.1
    attention = attribution[0].sum(0) / attribution[0].sum()
    settings = {
        "label": "cat",
        "target": "cat",
        "probabilities": {"cat": 0.7, "dog": 0.3},
        "attention": attention,
        "attribution": attribution,
        "logit_change": 1.0,
        "completeness": 0.0,
    }
    return FileExplanation.of_strip("scan.png", picture, Explanation(**(settings | found)))


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def purple(image):
    red, green, blue = np.moveaxis(image, -1, 0)
    return (red > green + 40) & (blue > green + 40)


def orange(image):
    red, green, blue = np.moveaxis(image, -1, 0)
    return (red > blue + 60) & (red > green + 20) & (green > blue + 20)


@pytest.mark.parametrize("ground", [0, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_heat_and_attention_are_drawn_where_they_are(tmp_path, ground, channels):
    path = draw_explanation(tmp_path / "a.png", explained(channels=channels, ground=ground))
    strip = pixels(path)[:, : round(8.6 * 110)]
    for colour in (purple, orange):
        columns = np.nonzero(colour(strip).sum(0) > 8)[0]
        assert columns.min() / strip.shape[1] == pytest.approx(150 / 300, abs=0.03)
        assert columns.max() / strip.shape[1] == pytest.approx(170 / 300, abs=0.03)


@pytest.mark.parametrize(
    ("rows", "columns", "inches"),
    [
        (28, 140, (3, 5)),
        (100, 3000, (4, 6)),
        (28, 4000, (10, 17)),
        (1, 1, (3, 5)),
    ],
)
def test_pictures_of_any_size_stay_readable(tmp_path, rows, columns, inches):
    shown = explained(rows, columns, place=slice(0, columns // 2 + 1))
    image = pixels(draw_explanation(tmp_path / "a.png", shown))
    assert 4 * 110 <= image.shape[1] <= 11 * 110
    assert inches[0] * 110 <= image.shape[0] <= inches[1] * 110


def test_long_strips_go_on_in_the_next_line(tmp_path):
    image = pixels(draw_explanation(tmp_path / "a.png", explained(28, 900, place=slice(700, 720))))
    rows, columns = np.nonzero(orange(image[:, :960]))
    assert rows.min() > image.shape[0] / 2  # the second of two lines
    share = (710 - 450) / 450
    assert (np.median(columns) - 0.15 * 110) / (8.5 * 110) == pytest.approx(share, abs=0.02)


def test_strips_from_top_to_bottom_lie_with_their_top_to_the_left(tmp_path):
    lying = explained(28, 300, place=slice(40, 60))
    lying.picture[:, 3:9, 10:90] = 200
    turned = np.rot90(lying.explanation.attribution, -1, axes=(1, 2))
    shown = dataclasses.replace(lying.explanation, attribution=turned, vertical=True)
    upright = dataclasses.replace(
        lying,
        picture=np.rot90(lying.picture, -1, axes=(1, 2)),
        heat=shown.saliency(),
        explanation=shown,
    )
    first = pixels(draw_explanation(tmp_path / "a.png", lying))[:, :940]
    second = pixels(draw_explanation(tmp_path / "b.png", upright))[:, :940]
    above = slice(0, round(first.shape[0] * 0.9))  # below it stands what the axis counts
    assert np.array_equal(first[above], second[above])


def test_a_right_prediction_is_green_and_a_wrong_one_red(tmp_path):
    for right, channel in ((True, 1), (False, 0)):
        image = pixels(draw_explanation(tmp_path / "a.png", explained(), right=right))[:40]
        coloured = image[image.max(-1) - image.min(-1) > 60]
        assert len(coloured) > 20
        assert (coloured.argmax(-1) == channel).mean() > 0.9


def test_bars_are_as_long_as_the_classes_are_probable(tmp_path):
    image = pixels(draw_explanation(tmp_path / "a.png", explained()))[:, 960:]
    chosen = (image[..., 2] - image[..., 0]) > 60
    assert chosen.sum(1).max() / (1.95 * 110) == pytest.approx(0.7, abs=0.03)


def test_the_explained_class_is_shown_however_improbable(tmp_path):
    shares = {f"class {k}": (10 - k) / 55 for k in range(10)}
    common = explained(probabilities=shares, label="class 0", target="class 0")
    rare = explained(probabilities=shares, label="class 0", target="class 9")
    first = pixels(draw_explanation(tmp_path / "a.png", common, most_classes=3))
    second = pixels(draw_explanation(tmp_path / "b.png", rare, most_classes=3))
    changed = np.nonzero((first != second).any(-1).any(1))[0]
    third_class = 0.42 + 2 * 0.29
    assert round(third_class * 110) <= changed.min() <= round((third_class + 0.29) * 110)


def test_no_attention_and_nothing_that_matters(tmp_path):
    nothing = explained(attention=None, attribution=np.zeros((1, 28, 300), np.float32))
    image = pixels(draw_explanation(tmp_path / "new" / "a.png", nothing))
    assert not orange(image).any()


def test_names_are_no_formulas_and_may_be_long(tmp_path):
    shares = {"$x_1$": 0.5, "$": 0.3, "long " * 20: 0.2}
    shown = explained(probabilities=shares, label="$x_1$", target="long " * 20)
    assert draw_explanation(tmp_path / "a.png", shown, title="$" + "very " * 60).exists()
