import numpy as np
import pytest

from fastrnn.cli.errors import CommandError
from fastrnn.cli.model_options import LayerNormName, ModelOptions, PoolingName
from fastrnn.cli.models import ModelName, build_model, known_settings
from fastrnn.data import StripArrays
from fastrnn.data.files import ImageReader
from fastrnn.nn.pooling import POOLINGS

LSTM, CNN_LSTM, CNN, FUSION = ModelName


def test_only_what_is_given_reaches_the_model():
    assert ModelOptions().architecture() == {}
    options = ModelOptions(
        hidden_size=5,
        bidirectional=False,
        heads=2,
        layer_norm=LayerNormName.OUTPUT,
        window_size=40,
        settings=["recurrent_dropout=0.1", "init=orthogonal"],
    )
    assert options.architecture() == {
        "hidden_size": 5,
        "bidirectional": False,
        "attention_heads": 2,
        "layer_norm": "output",
        "window_size": 40,
        "recurrent_dropout": 0.1,
        "init": "orthogonal",
    }


def test_a_setting_may_have_several_values_and_hyphens():
    options = ModelOptions(CNN_LSTM, settings=["conv-channels=8,16", "coupled_gates=true"])
    assert options.architecture() == {"conv_channels": (8, 16), "coupled_gates": True}


@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_of_the_library_is_a_choice(run, pooling):
    assert PoolingName(pooling) == pooling
    outcome = run("train", "no-such-folder", "--pooling", pooling)
    assert "no-such-folder does not exist" in outcome.err


def test_columns_are_stacked_in_fusion_where_no_convolutions_are():
    options = ModelOptions(FUSION, stack=2, settings=["encoder=lstm"])
    model = build_model(FUSION, strips(4), 0, **options.architecture())
    assert model.encoder.pixels_per_step == 2
    with pytest.raises(CommandError, match="stack is for encoder='lstm' only, got 2 with encoder="):
        build_model(FUSION, strips(4), 0, **ModelOptions(FUSION, stack=2).architecture())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ModelOptions(CNN, hidden_size=4), "--hidden-size is not for --model cnn"),
        (ModelOptions(CNN_LSTM, stack=2), "--stack is not for --model cnn-lstm"),
        (ModelOptions(settings=["x=1"]), "--set x: --model lstm has no such setting; it has pooli"),
        (ModelOptions(settings=["height=9"]), "--set height: --model lstm has no such setting"),
        (ModelOptions(settings=["reader=9"]), "--set reader: --model lstm has no such setting"),
        (ModelOptions(settings=["scan"]), "--set 'scan' should be name=value"),
        (ModelOptions(settings=["stack=1"], stack=1), "--set stack: it is given twice"),
        (ModelOptions(settings=["heads=1"]), "--set heads: --model lstm has no such setting"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(CommandError, match=message):
        options.architecture()


def strips(channels, frame_width=None):
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, (channels, 8, 12), dtype=np.uint8) for _ in range(4)]
    dataset = StripArrays(pixels, [0, 1, 0, 1], ["a", "b"])
    dataset.frame_width = frame_width
    return dataset


@pytest.mark.parametrize("name", [LSTM, CNN_LSTM, CNN])
def test_every_model_is_made_for_the_strips(name):
    model = build_model(name, strips(3), seed=0, reader=ImageReader(8, 3), dropout=0.25)
    config = model.config
    assert (config.in_channels, config.height, config.num_classes) == (3, 8, 2)
    assert model.labels == ("a", "b")
    assert config.dropout == 0.25
    assert config.pixel_mean == pytest.approx(0.5, abs=0.05)
    assert config.reader == ImageReader(8, 3).as_json()


def test_settings_that_follow_from_the_strips_can_be_overruled():
    assert build_model(CNN_LSTM, strips(1, 4), 0).config.frame_width == 4
    assert build_model(CNN_LSTM, strips(1, 4), 0, frames=False).config.frame_width is None
    assert build_model(LSTM, strips(1), 0, pixel_mean=0.125).config.pixel_mean == 0.125
    modalities = build_model(FUSION, strips(4), 0).config.modalities
    assert modalities == (("rgb", 3), ("depth", 1))
    assert {"fusion", "encoder"} <= set(known_settings(FUSION))


def test_a_model_that_is_not_for_such_strips():
    with pytest.raises(CommandError, match="--model fusion is for pictures with depth, of 2 or 4"):
        build_model(FUSION, strips(3), 0)
    with pytest.raises(CommandError, match="hidden_size must be from 1"):
        build_model(LSTM, strips(3), 0, hidden_size=-1)
    with pytest.raises(CommandError, match="'gru' is not one of lstm, cnn-lstm, cnn, fusion"):
        build_model("gru", strips(3), 0)
