"""Each setting of the LSTM in a model does what it says."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fastrnn
from fastrnn.models.config import RecurrentConfig
from fastrnn.models.encoders.recurrence import Recurrence
from fastrnn.nn import LightLSTM

FEATURES, H, T, B = 6, 8, 5, 4
LENGTHS = torch.tensor([5, 0, 1, 4])


def recurrence(**settings: Any) -> Recurrence:
    """The same weights at each call, where the same are asked for; in evaluation mode."""
    torch.manual_seed(0)
    config = RecurrentConfig(1, 1, 2, hidden_size=H, **settings)
    return Recurrence(FEATURES, config, dtype=torch.float64).eval()


def steps() -> Tensor:
    """The same at each call, and leaves torch's generator alone."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(T, B, FEATURES, dtype=torch.float64, generator=generator)


def parameters_of(**settings: Any) -> int:
    return sum(parameter.numel() for parameter in recurrence(**settings).parameters())


def gates_of(module: fastrnn.LSTM, name: str) -> dict[str, Tensor]:
    letters = "igo" if module.coupled_gates else "ifgo"
    parts = getattr(module, name).detach().chunk(len(letters))
    return dict(zip(letters, parts, strict=True))


def test_is_an_lstm_where_nothing_is_set():
    module = recurrence(num_layers=2)
    encoded = module(steps(), LENGTHS)
    y, (h_n, _) = module.lstm(steps(), lengths=LENGTHS)
    assert type(module.lstm) is fastrnn.LSTM
    assert torch.equal(encoded.steps, y)
    assert torch.equal(encoded.last, torch.cat((h_n[-2], h_n[-1]), 1))
    assert torch.equal(encoded.lengths, LENGTHS)


@pytest.mark.parametrize("layer_norm", ["none", "output", "gates"])
@pytest.mark.parametrize("recurrent_heads", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_last_state_is_that_of_the_steps(bidirectional, recurrent_heads, layer_norm):
    settings = {"bidirectional": bidirectional, "recurrent_heads": recurrent_heads}
    module = recurrence(layer_norm=layer_norm, num_layers=2, **settings)
    encoded = module(steps(), LENGTHS)
    alone = module(steps(), LENGTHS, only_last=True)
    assert alone.steps.shape == (0, B, module.features)
    torch.testing.assert_close(alone.last, encoded.last)
    if layer_norm == "output":
        return  # which normalises both directions of a step together
    ends = [encoded.steps[max(0, length - 1), b, :H] for b, length in enumerate(LENGTHS.tolist())]
    torch.testing.assert_close(encoded.last[:, :H], torch.stack(ends))
    if bidirectional:
        torch.testing.assert_close(encoded.last[:, H:], encoded.steps[0, :, H:])


class TestLayerNorm:
    def test_of_the_output_normalises_each_step(self):
        module, plain = recurrence(layer_norm="output"), recurrence()
        encoded = module(steps(), LENGTHS)
        y = plain(steps(), LENGTHS).steps
        expected = (y - y.mean(2, keepdim=True)) / (
            y.var(2, correction=0, keepdim=True) + 1e-5
        ).sqrt()
        for b, length in enumerate(LENGTHS.tolist()):
            torch.testing.assert_close(encoded.steps[:length, b], expected[:length, b])
            assert not encoded.steps[length:, b].any()

    def test_of_the_output_has_gain_and_shift_and_leaves_empty_strips_at_zero(self):
        module, plain = recurrence(layer_norm="output"), recurrence(layer_norm="output")
        with torch.no_grad():
            module.norm.weight.fill_(3)
            module.norm.bias.fill_(1)
        got, want = module(steps(), LENGTHS), plain(steps(), LENGTHS)
        for b, length in enumerate(LENGTHS.tolist()):
            torch.testing.assert_close(got.steps[:length, b], 3 * want.steps[:length, b] + 1)
            torch.testing.assert_close(got.last[b], 3 * want.last[b] + 1 if length else got.last[1])
        assert not got.last[1].any()
        assert not got.steps[:, 1].any()

    def test_of_the_gates_is_that_of_the_lstm(self):
        module = recurrence(layer_norm="gates")
        assert module.lstm.layer_norm
        assert module.norm is None
        torch.manual_seed(0)
        layer = fastrnn.LSTM(FEATURES, H, bidirectional=True, layer_norm=True, dtype=torch.float64)
        want = layer(steps(), lengths=LENGTHS)[0]
        torch.testing.assert_close(module(steps(), LENGTHS).steps, want)

    def test_has_the_parameters_it_should(self):
        assert parameters_of(layer_norm="output") == parameters_of() + 2 * 2 * H
        assert parameters_of(layer_norm="gates") == parameters_of() + 2 * (2 * 4 * H + 2 * H)


class TestInputDropout:
    def seen(self, module: Recurrence) -> Tensor:
        """What the LSTM is given."""
        inputs: list[Tensor] = []
        module.lstm.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        module(steps(), LENGTHS)
        return inputs[0]

    def test_zeroes_a_feature_of_a_strip_for_all_steps(self):
        seen = self.seen(recurrence(input_dropout=0.4).train())
        gone = (seen == 0).all(0)
        assert torch.equal(seen == 0, gone.expand_as(seen))
        assert gone.any()
        assert not gone.all()
        assert len({tuple(row) for row in gone.tolist()}) > 1  # of each strip others
        torch.testing.assert_close(seen, torch.where(gone, 0, steps() / 0.6))

    def test_acts_in_training_alone(self):
        assert torch.equal(self.seen(recurrence(input_dropout=0.4)), steps())

    def test_zeroes_the_share_that_it_says(self):
        module = recurrence(input_dropout=0.3).train()
        many = torch.ones(1, 5000, FEATURES, dtype=torch.float64)
        inputs: list[Tensor] = []
        module.lstm.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        module(many, None)
        assert (inputs[0] == 0).double().mean().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("recurrent_heads", [1, 2])
@pytest.mark.parametrize("name", ["recurrent_dropout", "zoneout"])
def test_dropout_of_the_state_is_that_of_the_lstm(name, recurrent_heads):
    plain, changed = (
        recurrence(recurrent_heads=recurrent_heads, **settings) for settings in ({}, {name: 0.4})
    )
    lstms = [changed.lstm] if recurrent_heads == 1 else list(changed.lstm.layers[0])
    wanted = (0.4, 0.4) if name == "zoneout" else 0.4
    assert [getattr(lstm, name) for lstm in lstms] == [wanted] * recurrent_heads
    changed.train()
    assert not torch.equal(changed(steps(), LENGTHS).steps, changed(steps(), LENGTHS).steps)
    changed.eval()
    assert torch.equal(changed(steps(), LENGTHS).steps, changed(steps(), LENGTHS).steps)
    as_without = torch.allclose(changed(steps(), LENGTHS).steps, plain(steps(), LENGTHS).steps)
    assert as_without == (name == "recurrent_dropout")  # zoneout is then its expectation


@pytest.mark.parametrize("recurrent_heads", [1, 2])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_dropout_between_layers(num_layers, recurrent_heads):
    settings = {"num_layers": num_layers, "recurrent_heads": recurrent_heads}
    module = recurrence(dropout=0.5, **settings).train()
    first, second = (module(steps(), LENGTHS).steps for _ in range(2))
    assert torch.equal(first, second) == (num_layers == 1)


class TestFewerParameters:
    """Against the numbers of a plain layer: two directions of 4 gates, no projection."""

    PLAIN = 2 * 4 * (H * FEATURES + H * H + 2 * H)

    def test_plain(self):
        assert parameters_of() == self.PLAIN

    def test_one_direction(self):
        assert parameters_of(bidirectional=False) == self.PLAIN // 2

    def test_coupled_gates(self):
        assert parameters_of(coupled_gates=True) == self.PLAIN * 3 // 4

    @pytest.mark.parametrize("heads", [2, 4, 8])
    def test_recurrent_heads(self, heads):
        assert parameters_of(recurrent_heads=heads) == self.PLAIN - 2 * 4 * (H * H - H * H // heads)

    def test_proj_size(self):
        expected = 2 * (4 * (H * FEATURES + H * 2 + 2 * H) + 2 * H)
        assert parameters_of(proj_size=2) == expected

    def test_all_of_them_over_two_layers(self):
        light = {"coupled_gates": True, "recurrent_heads": 2, "proj_size": 4}
        first = 3 * (H * FEATURES + H * 4 // 2 + 2 * H) + 4 * H // 2
        second = first - 3 * H * (FEATURES - 4)
        assert parameters_of(bidirectional=False, num_layers=2, **light) == first + second

    def test_coupled_gates_are_those_of_the_lstm(self):
        module = recurrence(coupled_gates=True)
        torch.manual_seed(0)
        layer = fastrnn.LSTM(
            FEATURES, H, bidirectional=True, coupled_gates=True, dtype=torch.float64
        )
        want = layer(steps(), lengths=LENGTHS)[0]
        assert torch.equal(module(steps(), LENGTHS).steps, want)

    def test_heads_are_those_of_the_light_lstm(self):
        module = recurrence(recurrent_heads=4)
        torch.manual_seed(0)
        layer = LightLSTM(FEATURES, H, heads=4, bidirectional=True, dtype=torch.float64)
        assert torch.equal(module(steps(), LENGTHS).steps, layer(steps(), lengths=LENGTHS)[0])


def lstms_of(module: Recurrence) -> list[fastrnn.LSTM]:
    return [part for part in module.modules() if isinstance(part, fastrnn.LSTM)]


@pytest.mark.parametrize("recurrent_heads", [1, 2])
@pytest.mark.parametrize("suffix", ["_l0", "_l0_reverse"])
class TestFirstWeights:
    def test_orthogonal(self, recurrent_heads, suffix):
        for lstm in lstms_of(recurrence(init="orthogonal", recurrent_heads=recurrent_heads)):
            for block in gates_of(lstm, f"weight_hh{suffix}").values():
                torch.testing.assert_close(block @ block.t(), torch.eye(len(block)).double())

    def test_forget_bias(self, recurrent_heads, suffix):
        for lstm in lstms_of(recurrence(forget_bias=1.5, recurrent_heads=recurrent_heads)):
            both = [gates_of(lstm, f"bias_{kind}{suffix}")["f"] for kind in ("ih", "hh")]
            assert (sum(both) == 1.5).all()

    def test_chrono(self, recurrent_heads, suffix):
        settings = {"init": "chrono", "chrono_range": (20, 50)}
        for lstm in lstms_of(recurrence(recurrent_heads=recurrent_heads, **settings)):
            biases = [gates_of(lstm, f"bias_{kind}{suffix}") for kind in ("ih", "hh")]
            forget, enter = (sum(bias[gate] for bias in biases) for gate in "fi")
            assert (forget >= math.log(19)).all()
            assert (forget <= math.log(49)).all()
            assert torch.equal(enter, -forget)
