import doctest

import numpy as np
import pytest
from PIL import Image

import fastrnn.plots
from fastrnn.data import StripArrays
from fastrnn.data.inspect import inspect_dataset
from fastrnn.plots import StripPicture, draw_confusion, draw_curves, draw_report, draw_strips
from fastrnn.training import EpochRecord


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def epochs(count, *, validation=True):
    """Losses that fall from the left end to the right one."""
    return [
        EpochRecord(
            epoch=k + 1,
            loss=2 - k / count,
            accuracy=k / count,
            validation_loss=2.2 - k / count if validation else None,
            validation_accuracy=k / count / 2 if validation else None,
            learning_rate=1e-3,
            strips_per_second=100.0,
            seconds=1.0,
        )
        for k in range(count)
    ]


def places(image, colour):
    """Rows and columns of the left third, where the losses are, that have about this colour."""
    left = image[:, : image.shape[1] // 3]
    return np.nonzero(abs(left - colour).max(-1) < 40)


BLUE, ORANGE, GREEN = (0x2F, 0x6D, 0xB5), (0xD9, 0x73, 0x0D), (0x2A, 0x7F, 0x4F)


def test_examples_run():
    assert doctest.testmod(fastrnn.plots).failed == 0


def test_curves_of_training_and_validation_fall_with_their_losses(tmp_path):
    image = pixels(draw_curves(tmp_path / "c.png", epochs(10), title="title"))
    for colour in (BLUE, ORANGE):
        rows, columns = places(image, colour)
        assert np.corrcoef(rows, columns)[0, 1] > 0.5  # the legend has the colours too
    above, below = (places(image, colour)[0].min() for colour in (ORANGE, BLUE))
    assert above < below  # the validation loss is the higher one


def test_curves_without_validation_have_none(tmp_path):
    image = pixels(draw_curves(tmp_path / "c.png", epochs(10, validation=False)))
    assert len(places(image, BLUE)[0]) > 100
    assert len(places(image, ORANGE)[0]) == 0


def test_curves_of_one_epoch_are_dots(tmp_path):
    image = pixels(draw_curves(tmp_path / "c.png", epochs(1)))
    for colour in (BLUE, ORANGE):
        assert len(places(image, colour)[0]) > 10


def test_the_best_epoch_is_marked_where_it_is(tmp_path):
    columns = []
    for best in (2, 9):
        image = pixels(draw_curves(tmp_path / "c.png", epochs(10), best_epoch=best))
        columns.append(np.median(places(image, GREEN)[1]))
    assert columns[1] > columns[0] + 100


def test_no_curves_without_an_epoch(tmp_path):
    with pytest.raises(ValueError, match="history is empty"):
        draw_curves(tmp_path / "c.png", [])


def test_confusion_matrix_is_darkest_on_the_diagonal_of_a_good_classifier(tmp_path):
    path = draw_confusion(tmp_path / "new" / "confusion.png", 50 * np.eye(3, dtype=int), "abc")
    image = pixels(path)
    blue = (image[..., 2] - image[..., 0]) > 60
    rows, columns = np.nonzero(blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.8


@pytest.mark.parametrize("classes", [2, 26, 60])
def test_confusion_matrix_of_any_size_without_numbers_running_out_of_room(tmp_path, classes):
    labels = [f"class {k}" for k in range(classes)]
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    image = pixels(draw_confusion(tmp_path / "c.png", counts, labels))
    assert 300 < image.shape[0] < 3000


def test_confusion_matrix_of_another_shape_than_its_labels(tmp_path):
    with pytest.raises(ValueError, match=r"confusion has shape \(2, 2\), but 3 labels"):
        draw_confusion(tmp_path / "c.png", np.eye(2), "abc")
    assert list(tmp_path.iterdir()) == []


def test_strips_show_where_the_attention_is(tmp_path):
    strip = np.zeros((1, 28, 300), np.uint8)
    attention = np.zeros(300)
    attention[200:220] = 1
    shown = StripPicture(strip, "a", attention=attention, right=True)
    path = draw_strips(tmp_path / "strips.png", [shown], title="title")
    image = pixels(path)
    orange = (image[..., 0] > 200) & (image[..., 2] < 140) & (image[..., 1] > 100)
    place = np.nonzero(orange.sum(0) > 5)[0].mean() / image.shape[1]
    assert 0.65 < place < 0.75


def test_a_right_prediction_is_green_and_a_wrong_one_red(tmp_path):
    strip = np.zeros((3, 28, 300), np.uint8)
    for right, channel in ((True, 1), (False, 0)):
        path = draw_strips(tmp_path / "s.png", [StripPicture(strip, "MMMMM", right=right)])
        image = pixels(path)
        coloured = image[image.max(-1) - image.min(-1) > 60]
        assert (coloured.argmax(-1) == channel).mean() > 0.9


def test_a_strip_of_one_step_and_no_attention(tmp_path):
    one = StripPicture(np.zeros((1, 28, 1), np.uint8), "dot", attention=np.ones(1))
    assert draw_strips(tmp_path / "s.png", [one, one]).exists()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="pictures is empty"):
        draw_strips(tmp_path / "s.png", [])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_strips_of_any_number_of_channels_are_shown(tmp_path, channels):
    strip = np.full((channels, 20, 300), 40, np.uint8)
    image = pixels(draw_strips(tmp_path / "s.png", [StripPicture(strip, "a")]))
    assert (abs(image - 40).max(-1) < 4).mean() > 0.2


def test_depth_is_shown_below_the_colours_and_not_as_transparency(tmp_path):
    strip = np.zeros((4, 20, 300), np.uint8)
    strip[0], strip[3] = 255, 120  # red, and everywhere at one distance
    image = pixels(draw_strips(tmp_path / "s.png", [StripPicture(strip, "a")]))
    red = (abs(image - (255, 0, 0)).max(-1) < 4).any(1).nonzero()[0]
    grey = (abs(image - 120).max(-1) < 4).sum(1) > 500
    assert len(red)
    assert grey.nonzero()[0].min() >= red.max()


def test_class_names_in_a_script_that_the_font_lacks(tmp_path):
    assert draw_confusion(tmp_path / "c.png", np.eye(2), ["八", "$x"]).exists()


def some_strips(targets, labels, width=9):
    return StripArrays([np.full((4, width), 7, np.uint8)] * len(targets), targets, labels)


def test_report_has_a_bar_of_the_right_height_for_each_class(tmp_path):
    strips = some_strips([0] * 10 + [1] * 5, ["a", "b"])
    image = pixels(draw_report(tmp_path / "r.png", inspect_dataset(strips)))
    upper = image[: image.shape[0] // 2]
    blue = (upper[..., 2] - upper[..., 0]) > 60
    columns = blue.sum(0)
    middle = len(columns) // 2
    assert columns[:middle].max() == pytest.approx(2 * columns[middle:].max(), rel=0.03)


def test_report_shows_where_the_widths_of_each_part_are(tmp_path):
    labels = ["a", "b"]
    narrow, wide = some_strips([0, 1], labels, 100), some_strips([0, -1], labels, 500)
    report = inspect_dataset({"$narrow$": narrow, "wide": wide})
    image = pixels(draw_report(tmp_path / "r.png", report, title="$x"))
    lower = image[image.shape[0] // 2 :]
    blue = (lower[..., 2] - lower[..., 0]) > 60
    orange = (lower[..., 0] - lower[..., 2]) > 60
    assert blue.sum(0).argmax() < lower.shape[1] * 0.2
    assert orange.sum(0).argmax() > lower.shape[1] * 0.8


@pytest.mark.parametrize("classes", [0, 1, 40, 41, 3000])
def test_report_on_any_number_of_classes(tmp_path, classes):
    labels = [f"class {k}" for k in range(classes)]
    strips = some_strips([-1, *range(classes)], labels)
    assert pixels(draw_report(tmp_path / "r.png", inspect_dataset(strips))).shape[1] < 2000


def test_examples_in_docstrings_run():
    assert doctest.testmod(fastrnn.plots).failed == 0
