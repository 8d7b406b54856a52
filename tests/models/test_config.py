"""Settings that models share are checked when they are made, and survive JSON."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.models import CNNLSTMConfig, ModelConfig, StripClassifierConfig, StripCNNConfig

from .random_models import CLASSES, settings_of


@settings(max_examples=20)
@given(data=st.data())
def test_json_gives_an_equal_config(data):
    model_class = data.draw(st.sampled_from(CLASSES))
    config = model_class.config_class(**data.draw(settings_of(model_class)))
    text = json.dumps(dataclasses.asdict(config))
    assert type(config)(**json.loads(text)) == config


def test_numbers_of_numpy_become_pythons():
    config = CNNLSTMConfig(
        np.int64(1), 8, 3, hidden_size=np.int32(6), conv_channels=[np.int8(4)] * 2
    )
    assert json.dumps(dataclasses.asdict(config))
    assert config.conv_channels == (4, 4)


def test_configs_are_frozen_and_hashable():
    config = CNNLSTMConfig(1, 8, 3, conv_channels=[4, 4, 4], init="chrono", chrono_range=[2, 9])
    assert hash(config) == hash(dataclasses.replace(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hidden_size = 3


def test_windows_follow_each_other_by_default():
    assert ModelConfig(1, 8, 3, window_size=50).window_stride == 50
    assert ModelConfig(1, 8, 3, window_size=50, window_stride=20).window_stride == 20
    assert ModelConfig(1, 8, 3).window_stride is None


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("proj_size", "share"), [(0, 6), (4, 4)])
def test_features_are_those_of_all_directions(bidirectional, proj_size, share):
    config = StripClassifierConfig(
        1, 8, 3, hidden_size=6, proj_size=proj_size, bidirectional=bidirectional
    )
    assert config.features == share * (2 if bidirectional else 1)


MODEL = [
    ({"attention_heads": 0}, ValueError, "attention_heads must be from 1 to 65536, got 0"),
    ({"attention_heads": 2.0}, TypeError, r"attention_heads must be an integer, got 2\.0"),
    (
        {"attention_heads": 2, "pooling": "max"},
        ValueError,
        "attention_heads is for pooling='attention' only, got 2 with pooling='max'",
    ),
    ({"pooling": "sum"}, ValueError, r"pooling must be one of last, mean, max, mean\+max, attent"),
    ({"window_size": 0}, ValueError, "window_size must be from 1 to 16777216, got 0"),
    ({"window_size": 2.5}, TypeError, r"window_size must be an integer, got 2\.5"),
    ({"window_stride": 5}, ValueError, "window_stride is 5, but window_size is None"),
    (
        {"window_size": 5, "window_stride": 6},
        ValueError,
        "window_stride must be from 1 to 5, got 6",
    ),
    ({"window_combine": "max"}, ValueError, "window_combine must be one of mean, vote, got 'max'"),
]
RECURRENT = [
    ({"attention_heads": 3}, ValueError, r"divide the features of a step \(128\), got 3"),
    ({"hidden_size": 0}, ValueError, "hidden_size must be from 1 to 65536, got 0"),
    ({"num_layers": 0}, ValueError, "num_layers must be from 1 to 256, got 0"),
    ({"layer_norm": True}, TypeError, "layer_norm must be a string, got True"),
    ({"layer_norm": "batch"}, ValueError, "one of none, output, gates, got 'batch'"),
    (
        {"layer_norm": "output", "hidden_size": 1, "bidirectional": False},
        ValueError,
        "layer_norm='output' normalises a single unit .*hidden_size=1",
    ),
    (
        {"layer_norm": "gates", "recurrent_heads": 64},
        ValueError,
        r"'gates' normalises a single unit .*recurrent_heads=64\); it needs two or more",
    ),
    ({"input_dropout": 1.0}, ValueError, r"input_dropout must be in \[0, 1\), got 1\.0"),
    ({"recurrent_dropout": -0.1}, ValueError, r"recurrent_dropout must be in \[0, 1\), got -0\.1"),
    ({"zoneout": math.nan}, ValueError, "zoneout must be finite, got nan"),
    ({"zoneout": (0.1, 0.1)}, TypeError, "zoneout must be a number"),
    ({"coupled_gates": 1}, TypeError, "coupled_gates must be True or False, got 1"),
    ({"bidirectional": None}, TypeError, "bidirectional must be True or False, got None"),
    ({"proj_size": 64}, ValueError, "proj_size must be from 0 to 63, got 64"),
    ({"recurrent_heads": 65}, ValueError, "recurrent_heads must be from 1 to 64, got 65"),
    ({"recurrent_heads": 3}, ValueError, r"must divide hidden_size \(64\), got 3"),
    (
        {"recurrent_heads": 4, "proj_size": 6},
        ValueError,
        r"recurrent_heads must divide proj_size \(6\), got 4",
    ),
    ({"init": "zeros"}, ValueError, "init must be one of uniform, orthogonal, chrono, got 'zeros'"),
    ({"init": "chrono"}, ValueError, "chrono_range is None with init='chrono'"),
    ({"chrono_range": (2, 9)}, ValueError, r"chrono_range is \(2, 9\) with init='uniform'"),
    (
        {"init": "chrono", "chrono_range": [9, 2]},
        ValueError,
        r"chrono_range is \(9, 2\); it should be two numbers of steps, at least 2",
    ),
    ({"forget_bias": "1"}, ValueError, "forget_bias is '1'; it should be a number, or None"),
    (
        {"forget_bias": 1.0, "init": "chrono", "chrono_range": (2, 9)},
        ValueError,
        "forget_bias is given with init='chrono'",
    ),
]
CONV = [
    ({"attention_heads": 5}, ValueError, "attention_heads must divide the features of a step"),
    ({"conv_channels": []}, TypeError, r"conv_channels must be a sequence of integers, got \[\]"),
    ({"conv_channels": "abc"}, TypeError, "must be a sequence of integers, got 'abc'"),
    ({"conv_channels": 8}, TypeError, "must be a sequence of integers, got 8"),
    ({"conv_channels": [8, 1]}, ValueError, r"conv_channels\[1\] must be from 2 to 65536, got 1"),
    ({"conv_channels": [8.0]}, TypeError, r"conv_channels\[0\] must be an integer, got 8\.0"),
    ({"conv_features": 0}, ValueError, "conv_features must be from 1 to 65536, got 0"),
    ({"width_factor": 0}, ValueError, "width_factor must be from 1 to 16777216, got 0"),
    ({"width_factor": 3}, ValueError, "width_factor must be one of 1, 2, 4, 8 with 3 conv"),
    ({"width_factor": 4, "conv_channels": [8]}, ValueError, "one of 1, 2 with 1 convolutions"),
]


@pytest.mark.parametrize(
    ("config_class", "changes", "error", "message"),
    [
        *((ModelConfig, *case) for case in MODEL),
        *((StripClassifierConfig, *case) for case in RECURRENT),
        *((CNNLSTMConfig, *case) for case in CONV),
        *((StripCNNConfig, *case) for case in CONV),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else getattr(value, "__name__", ""),
)
def test_refuses(config_class, changes, error, message):
    with pytest.raises(error, match=message):
        config_class(1, 8, 3, **changes)
