"""An LSTM in heads is the LSTM whose recurrent weights are block-diagonal."""

import copy
import doctest
import io
import itertools
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn.nn import LightLSTM

FEATURES, H, P, T, B = 3, 8, 4, 5, 4
LENGTHS = [5, 0, 1, 4]

Get = Callable[[Tensor], Tensor]


def light(**options: Any) -> LightLSTM:
    torch.manual_seed(0)
    return LightLSTM(FEATURES, H, **({"heads": 2, "dtype": torch.float64} | options))


def sequences(**options: Any) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(T, B, FEATURES, dtype=torch.float64, **options)


def assembled(layer: LightLSTM, name: str, number: int, suffix: str, get: Get) -> Tensor:
    """A parameter of the LSTM with dense weights that does the same, from those of the heads."""
    parts = [get(getattr(head, f"{name}_l0{suffix}")) for head in layer.layers[number]]
    if name == "weight_hr":
        return torch.block_diag(*parts)
    gates = 3 if layer.layers[0][0].coupled_gates else 4
    join = (lambda p: torch.block_diag(*p)) if name == "weight_hh" else torch.cat
    return torch.cat([join(gate) for gate in zip(*(p.chunk(gates) for p in parts), strict=True)])


def places(layer: LightLSTM) -> list[tuple[str, int, str]]:
    """Kind, layer and direction of the parameters."""
    first = layer.layers[0][0]
    kinds = ["weight_ih", "weight_hh"]
    kinds += ["bias_ih", "bias_hh"] if first.bias else []
    kinds += ["weight_hr"] if first.proj_size else []
    directions = ["", "_reverse"] if layer.bidirectional else [""]
    return list(itertools.product(kinds, range(len(layer.layers)), directions))


def dense_of(layer: LightLSTM, **options: Any) -> fastrnn.LSTM:
    """The LSTM with dense weights that does the same."""
    dense = fastrnn.LSTM(FEATURES, H, len(layer.layers), dtype=torch.float64, **options)
    for name, number, suffix in places(layer):
        weight = getattr(dense, f"{name}_l{number}{suffix}")
        weight.data.copy_(assembled(layer, name, number, suffix, lambda p: p.data))
    return dense


def run(layer: torch.nn.Module, x: Tensor, lengths: list[int] | None) -> list[Tensor]:
    """Outputs, and gradients of the input and, kept at the parameters, theirs."""
    y, (h_n, c_n) = layer(x, lengths=lengths)
    torch.manual_seed(2)
    sum((t * torch.randn_like(t)).sum() for t in (y, h_n, c_n)).backward()
    return [y, h_n, c_n, x.grad]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("num_layers", "lengths", "options"),
    [
        (1, None, {}),
        (3, LENGTHS, {}),
        (2, LENGTHS, {"proj_size": P}),
        (2, LENGTHS, {"coupled_gates": True}),
        (2, LENGTHS, {"bias": False}),
    ],
)
@pytest.mark.parametrize("heads", [2, 4])
def test_is_the_lstm_of_block_diagonal_weights(heads, num_layers, lengths, options, bidirectional):
    layer = light(num_layers=num_layers, heads=heads, bidirectional=bidirectional, **options)
    dense = dense_of(layer, bidirectional=bidirectional, **options)
    wanted = run(dense, sequences(requires_grad=True), lengths)
    for got, want in zip(run(layer, sequences(requires_grad=True), lengths), wanted, strict=True):
        torch.testing.assert_close(got, want)
    for name, number, suffix in places(layer):
        got = assembled(layer, name, number, suffix, lambda p: p.grad)
        inside = assembled(layer, name, number, suffix, lambda p: torch.ones_like(p))
        want = getattr(dense, f"{name}_l{number}{suffix}").grad * inside
        torch.testing.assert_close(got, want)


def test_heads_are_lstms_side_by_side():
    layer, x = light(bidirectional=True), sequences()
    y, state = layer(x, lengths=LENGTHS)
    (one, of_one), (two, of_two) = (head(x, lengths=LENGTHS) for head in layer.layers[0])
    directions = zip(one.chunk(2, 2), two.chunk(2, 2), strict=True)
    assert torch.equal(y, torch.cat([torch.cat(heads, 2) for heads in directions], 2))
    for got, *heads in zip(state, of_one, of_two, strict=True):
        assert torch.equal(got, torch.cat(heads, 2))


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("coupled_gates", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_weights_are_divided_by_the_heads(heads, coupled_gates, bidirectional):
    layer = light(heads=heads, coupled_gates=coupled_gates, bidirectional=bidirectional)
    gates, directions = (3 if coupled_gates else 4), (2 if bidirectional else 1)
    expected = directions * gates * (H * FEATURES + H * H // heads + 2 * H)
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_projections_are_divided_by_the_heads_twice():
    layer = light(heads=2, proj_size=P)
    expected = 4 * (H * FEATURES + H * P // 2 + 2 * H) + H * P // 2
    assert sum(parameter.numel() for parameter in layer.parameters()) == expected


def test_the_last_state_alone_is_that_of_the_whole_run():
    layer, x = light(num_layers=2, bidirectional=True), sequences()
    y, state = layer(x, lengths=LENGTHS, last_state_only=True)
    assert y.shape == (0, B, 2 * H)
    for got, want in zip(state, layer(x, lengths=LENGTHS)[1], strict=True):
        torch.testing.assert_close(got, want)


def test_dropout_is_between_layers_and_in_training_only():
    whole, x = light(num_layers=2, dropout=1.0), sequences()
    other = x + 1
    assert not torch.equal(whole.eval()(x)[0], whole(other)[0])
    whole.train()
    assert torch.equal(whole(x)[0], whole(other)[0])  # nothing gets through
    assert whole(x)[0].any()  # nothing is dropped behind the last layer
    single = light(dropout=1.0)
    assert torch.equal(single.train()(x)[0], single.eval()(x)[0])


@pytest.mark.parametrize(
    "options",
    [{"layer_norm": True}, {"recurrent_dropout": 0.5}, {"zoneout": 0.3}, {"checkpoint_every": 2}],
    ids=str,
)
def test_options_reach_every_head(options):
    layer = light(num_layers=2, **options)
    [(name, value)] = options.items()
    expected = (value, value) if name == "zoneout" else value
    assert all(getattr(head, name) == expected for heads in layer.layers for head in heads)
    y, _ = layer(sequences(), lengths=LENGTHS)
    assert y.isfinite().all()


def test_batch_first_turns_input_and_output():
    layer = light(num_layers=2, batch_first=True, bidirectional=True)
    y, state = layer(sequences().transpose(0, 1), lengths=LENGTHS)
    want, other = light(num_layers=2, bidirectional=True)(sequences(), lengths=LENGTHS)
    torch.testing.assert_close(y, want.transpose(0, 1))
    torch.testing.assert_close(state[0], other[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_runs_in_other_types(dtype):
    layer, x = light(num_layers=2), sequences()
    want, _ = layer(x, lengths=LENGTHS)
    y, state = layer.to(dtype)(x.to(dtype), lengths=LENGTHS)
    assert y.dtype == state[1].dtype == dtype
    torch.testing.assert_close(y.double(), want, rtol=2e-2, atol=2e-2)


def test_copies_and_saves():
    layer, x = light(num_layers=2), sequences()
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = LightLSTM(FEATURES, H, 2, dtype=torch.float64)
    loaded.load_state_dict(torch.load(file))
    for other in (copy.deepcopy(layer), loaded):
        assert torch.equal(other(x)[0], layer(x)[0])


def test_repr_shows_the_heads():
    assert "LightLSTM(\n  heads=4" in repr(light(heads=4))


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"heads": 3}, ValueError, r"heads must divide hidden_size \(8\), got 3"),
            ({"heads": 4, "proj_size": 6}, ValueError, r"divide proj_size \(6\), got 4"),
            ({"heads": 0}, ValueError, "heads must be a whole number, at least 1, got 0"),
            ({"heads": 2.0}, ValueError, r"heads must be a whole number, .*, got 2\.0"),
            ({"heads": True}, ValueError, "heads must be a whole number, .*, got True"),
            ({"num_layers": 0}, ValueError, "num_layers must be a whole number, .*, got 0"),
            ({"dropout": 1.5}, ValueError, r"dropout is 1\.5"),
            ({"dropout": "1"}, ValueError, "dropout is '1'"),
            ({"proj_size": 8}, ValueError, "proj_size has to be smaller than hidden_size"),
            ({"colour": 1}, TypeError, "unexpected keyword argument 'colour'"),
        ],
    )
    def test_settings(self, options, error, message):
        with pytest.raises(error, match=message):
            light(**options)

    @pytest.mark.parametrize(
        ("x", "error", "message"),
        [
            (torch.randn(T, FEATURES), ValueError, r"padded batch \[T, B, I\], got shape \[5, 3\]"),
            ([[0.0]], TypeError, r"tensor \[T, B, I\], got list"),
            (
                torch.nested.nested_tensor([torch.randn(2, FEATURES)], layout=torch.jagged),
                ValueError,
                "got a nested tensor",
            ),
            (
                pack_padded_sequence(torch.randn(T, B, FEATURES), [5, 3, 2, 1]),
                TypeError,
                "PackedSequence",
            ),
            (torch.randn(T, B, FEATURES + 1), RuntimeError, "3, got 4"),
        ],
        ids=["one sequence", "list", "nested", "packed", "features"],
    )
    def test_input(self, x, error, message):
        with pytest.raises(error, match=message):
            light(dtype=torch.float32)(x)

    def test_lengths(self):
        with pytest.raises(ValueError, match=r"lengths\[3\] is 7"):
            light()(sequences(), lengths=[5, 0, 1, 7])


def test_examples_in_docstrings_run():
    assert doctest.testmod(sys.modules["fastrnn.nn.light_lstm"]).failed == 0
