"""What torch's own tests check of `torch.nn.LSTM`, checked of `fastrnn.LSTM`.

Each test says what it checks, and which of torch's public tests (``test/test_nn.py``) it stands
for. Where torch only asks for an error, ours is compared with the one that stock raises here.
"""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn

from .side_by_side import assert_equal, error_of, flat, gradients, make_pair, make_state

# Torch says once that oneDNN, which it uses on the CPU, has no projections.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

Change = Callable[[dict[str, list[int]]], None]


def set_size(name: str, dim: int, size: int = 7) -> Change:
    def change(shapes: dict[str, list[int]]) -> None:
        shapes[name][dim] = size

    return change


def both(*changes: Change) -> Change:
    def change(shapes: dict[str, list[int]]) -> None:
        for each in changes:
            each(shapes)

    return change


# What is wrong with a call, and what the message should tell of it.
WRONG_SHAPES = {
    "batch of x": (set_size("x", 1), r"hx\[0\] size \(2, 7, \d\), got \[2, 4, \d\]"),
    "features of x": (set_size("x", 2), "must be equal to input_size. Expected 3, got 7"),
    "batch of h_0": (set_size("h_0", 1), r"hx\[0\] size \(2, 4, \d\), got \[2, 7, \d\]"),
    "batch of c_0": (set_size("c_0", 1), r"hx\[1\] size \(2, 4, 5\), got \[2, 7, 5\]"),
    "units of h_0": (set_size("h_0", 2), r"hx\[0\] size .* got \[2, 4, 7\]"),
    "units of c_0": (set_size("c_0", 2), r"hx\[1\] size .* got \[2, 4, 7\]"),
    "rows of h_0": (set_size("h_0", 0), r"hx\[0\] size .* got \[7, 4, \d\]"),
    "rows of c_0": (set_size("c_0", 0), r"hx\[1\] size .* got \[7, 4, 5\]"),
    "rows of both": (both(set_size("h_0", 0), set_size("c_0", 0)), r"hx\[0\] size"),
    "units of both": (both(set_size("h_0", 2), set_size("c_0", 2)), r"hx\[0\] size"),
}


@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_wrong_shapes_are_refused(wrong: str, proj_size: int) -> None:
    """Shapes that do not fit are told; test_rnn_args_check, test_projections_lstm_args_check."""
    stock, ours = make_pair(3, 5, num_layers=2, proj_size=proj_size)
    shapes = {"x": [6, 4, 3], "h_0": [2, 4, proj_size or 5], "c_0": [2, 4, 5]}
    change, message = WRONG_SHAPES[wrong]
    change(shapes)
    x, h_0, c_0 = (torch.randn(shape) for shape in shapes.values())
    errors = [error_of(lambda m=m: m(x, (h_0, c_0))) for m in (stock, ours)]
    assert type(errors[1]) is type(errors[0]) is RuntimeError
    with pytest.raises(RuntimeError, match=message):
        ours(x, (h_0, c_0))


def test_a_state_as_wide_as_the_cell_is_refused_with_a_projection() -> None:
    """h_0 has P features then, not H; for test_projections_lstm_args_check."""
    stock, ours = make_pair(3, 5, num_layers=2, proj_size=2)
    hx = (torch.randn(2, 4, 5), torch.randn(2, 4, 5))
    errors = [error_of(lambda m=m: m(torch.randn(6, 4, 3), hx)) for m in (stock, ours)]
    assert type(errors[1]) is type(errors[0]) is RuntimeError
    assert "Expected hx[0] size (2, 4, 2), got [2, 4, 5]" in str(errors[1])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 10])
def test_no_state_is_a_state_of_zeros(proj_size: int, bidirectional: bool) -> None:
    """For test_rnn_initial_hidden_state and test_projections_lstm_initial_hidden_state."""
    stock, ours = make_pair(30, 20, 2, bidirectional=bidirectional, proj_size=proj_size)
    x = torch.randn(10, 32, 30)
    zeros = tuple(torch.zeros_like(state) for state in make_state(ours, 32))
    without, given = flat(ours(x)), flat(ours(x, zeros))
    assert_equal(without, given)
    assert_equal(without, flat(stock(x)))


@pytest.mark.parametrize(
    ("name", "proj_size"), [("weight_hh_l0", 0), ("weight_ih_l1", 0), ("weight_hr_l0", 3)]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weight_norm_comes_and_goes(name: str, proj_size: int) -> None:
    """A normed weight is no parameter, then one again; outputs stay; test_rnn_weight_norm."""
    stock, ours = make_pair(10, 6, 2, proj_size=proj_size)
    x = torch.randn(7, 5, 10)
    before, names = ours(x)[0], {n for n, _ in ours.named_parameters()}
    count = len(names)
    nn.utils.weight_norm(ours, name=name)
    assert {n for n, _ in ours.named_parameters()} == names - {name} | {f"{name}_g", f"{name}_v"}
    assert sum(isinstance(w, nn.Parameter) for w in ours._flat_weights) == count - 1
    torch.testing.assert_close(ours(x)[0], before)
    with torch.no_grad():
        getattr(ours, f"{name}_g").mul_(2)
        getattr(stock, name).mul_(2)
    torch.testing.assert_close(ours(x)[0], stock(x)[0])
    nn.utils.remove_weight_norm(ours, name=name)
    assert {n for n, _ in ours.named_parameters()} == names
    assert sum(isinstance(w, nn.Parameter) for w in ours._flat_weights) == count
    torch.testing.assert_close(ours(x)[0], stock(x)[0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_a_batch_of_no_sequences(proj_size: int, bidirectional: bool, batch_first: bool) -> None:
    """Empty outputs, and gradients of zero; for test_RNN_input_size_zero."""
    options = {
        "proj_size": proj_size,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
    }
    results = []
    for layer in make_pair(3, 4, 2, **options):
        x = torch.zeros((0, 5, 3) if batch_first else (5, 0, 3), requires_grad=True)
        outputs = flat(layer(x))
        results.append([*outputs, *gradients(outputs, [x, *layer.parameters()])])
    assert_equal(results[1], results[0])
    assert all(not grad.any() for grad in results[1][3:])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_time_steps_are_refused(bidirectional: bool) -> None:
    """T = 0 is an error, and told; for test_error_RNN_seq_len_zero."""
    for layer in make_pair(5, 6, bidirectional=bidirectional):
        error = error_of(lambda layer=layer: layer(torch.ones(0, 10, 5)))
        assert isinstance(error, RuntimeError | ValueError)
        assert "no time steps" in str(error) or "sequence length" in str(error)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[10, 10, 6, 2, 2, 1, 1], [1, 6, 10, 2, 1, 10, 2]])
def test_packed_sequences_are_what_each_is_alone(lengths: list[int], batch_first: bool) -> None:
    """Outputs, states and gradients, in the caller's order; for test_variable_sequence."""
    _, ours = make_pair(3, 2, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    x = torch.randn(10, 7, 3, dtype=torch.float64, requires_grad=True)
    h_0, c_0 = make_state(ours, 7)
    leaves = [x, h_0, c_0, *ours.parameters()]
    given = x.transpose(0, 1) if batch_first else x
    packed = pack_padded_sequence(given, torch.tensor(lengths), batch_first, enforce_sorted=False)
    y, state = ours(packed, (h_0, c_0))
    padded, found = pad_packed_sequence(y)
    assert found.tolist() == lengths
    together = [padded, *state]

    alone = [ours(x[:n, i], (h_0[:, i], c_0[:, i])) for i, n in enumerate(lengths)]
    one_by_one = [
        nn.utils.rnn.pad_sequence([y for y, _ in alone]),
        torch.stack([h_n for _, (h_n, _) in alone], 1),
        torch.stack([c_n for _, (_, c_n) in alone], 1),
    ]
    assert_equal(together, one_by_one)
    assert_equal(gradients(together, leaves), gradients(one_by_one, leaves))


def test_lengths_may_be_numbers_of_any_kind() -> None:
    """A list and a tensor pack to the same; for the lengths of test_variable_sequence."""
    _, ours = make_pair(3, 4)
    x, lengths = torch.randn(7, 3, 3), [7, 5, 2]
    runs = [flat(ours(pack_padded_sequence(x, n))) for n in (lengths, torch.tensor(lengths))]
    assert_equal(*runs)


@pytest.mark.parametrize("options", [{}, {"proj_size": 5}, {"bidirectional": True}], ids=str)
def test_backward_may_run_again_on_the_same_graph(options: dict[str, object]) -> None:
    """With retain_graph four passes give the same gradients; for test_rnn_retain_variables."""
    _, ours = make_pair(10, 20, 2, dtype=torch.float64, **options)
    x = torch.randn(5, 6, 10, dtype=torch.float64, requires_grad=True)
    y, _ = ours(x)
    found = []
    for _ in range(4):
        ours.zero_grad()
        x.grad = None
        y.sum().backward(retain_graph=True)
        found.append([t.grad.clone() for t in (x, *ours.parameters())])
    fresh = torch.autograd.grad(ours(x)[0].sum(), [x, *ours.parameters()])
    for again in found:
        assert all(torch.equal(a, b) for a, b in zip(again, fresh, strict=True))


def test_a_graph_that_was_not_kept_is_refused() -> None:
    """A second pass without retain_graph raises as stock does; for test_rnn_retain_variables."""
    errors = []
    for layer in make_pair(3, 4):
        y = layer(torch.randn(5, 2, 3))[0].sum()
        y.backward()
        errors.append(error_of(y.backward))
    assert type(errors[1]) is type(errors[0]) is RuntimeError
    assert "second time" in str(errors[1])


def test_layers_from_before_projections_load() -> None:
    """State of a layer pickled without proj_size is accepted; test_save_lstm_compatibility."""
    _, ours = make_pair(2, 3)
    x = torch.randn(32, 5, 2)
    old = copy.deepcopy(ours).__dict__
    del old["proj_size"]
    loaded = fastrnn.LSTM(2, 3)
    loaded.__setstate__(old)
    assert loaded.proj_size == 0
    assert_equal(flat(loaded(x)), flat(ours(x)))


@pytest.mark.parametrize("training", [False, True])
def test_dropout_may_change_between_calls(training: bool) -> None:
    """Each call uses the probability of then; for test_RNN_dropout, test_RNN_change_dropout."""
    stock, ours = make_pair(6, 20, 2)
    x = torch.randn(3, 2, 6)
    for layer in (stock, ours):
        layer.train(training)
    plain = ours(x)[0]
    for p in (0.0, 0.5, 0.0, 0.7, 1.0, 0.2):
        results = []
        for layer in (stock, ours):
            layer.dropout = p
            torch.manual_seed(3)
            results.append(flat(layer(x)))
        assert_equal(results[1], results[0])
        assert torch.equal(results[1][0], plain) == (p == 0 or not training)
        assert torch.equal(ours(x)[0], ours(x)[0]) == (p in (0, 1) or not training)


def test_a_pickled_layer_drops_what_the_layer_drops() -> None:
    """State of dropout is torch's random state alone; for test_RNN_dropout_state."""
    _, ours = make_pair(6, 20, 2, dropout=0.3)
    twin, x = copy.deepcopy(ours), torch.randn(3, 2, 6)
    results = []
    for layer in (ours, twin):
        torch.manual_seed(3)
        results.append(layer(x)[0])
    assert torch.equal(*results)


def test_inputs_get_gradients_through_frozen_weights() -> None:
    """For test_rnn_backward_to_input_but_not_parameters."""
    stock, ours = make_pair(2, 3)
    found = []
    for layer in (stock, ours):
        layer.requires_grad_(False)
        x = torch.ones(1, 1, 2, requires_grad=True)
        layer(x)[0].sum().backward()
        assert all(p.grad is None for p in layer.parameters())
        found.append([x.grad])
    assert found[1][0].any()
    assert_equal(found[1], found[0])


@pytest.mark.parametrize("chosen", range(3))
def test_one_output_alone_gives_gradients(chosen: int) -> None:
    """Outputs that nobody uses do no harm; for test_lstmcell_backward_only_one_output_grad."""
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    found = []
    for layer in make_pair(3, 5, 2, dtype=torch.float64):
        loss = flat(layer(x))[chosen].square().sum()
        found.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
    assert_equal(found[1], found[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_weight_put_in_place_of_another_is_used(training: bool) -> None:
    """A deleted and re-set weight counts; for test_partial_flat_weights."""
    stock, ours = make_pair(10, 6, 2)
    x = torch.randn(3, 2, 10)
    for layer in (stock.train(training), ours.train(training)):
        weight = layer.weight_hh_l0
        del layer.weight_hh_l0
        assert not hasattr(layer, "weight_hh_l0")
        layer.double().float()
        layer.weight_hh_l0 = nn.Parameter(weight.detach() * 2)
    assert_equal(flat(ours(x)), flat(stock(x)))


def test_directions_may_share_a_weight() -> None:
    """Tied weights get the sum of both gradients; for test_cudnn_weight_tying."""
    x = torch.randn(5, 4, 10)
    results = []
    for layer in make_pair(10, 20, bidirectional=True):
        layer.bias_ih_l0_reverse = layer.bias_ih_l0
        outputs = flat(layer(x))
        results.append([*outputs, *gradients(outputs, list(layer.parameters()))])
    assert_equal(results[1], results[0])


def test_a_layer_with_storage_set_anew_gives_the_same() -> None:
    """Weights need not lie in one piece of memory; for test_cudnn_weight_format."""
    _, ours = make_pair(10, 20, proj_size=10)
    x = torch.randn(5, 4, 10)
    want = flat(ours(x))
    data = ours.weight_hh_l0.detach().clone()
    with torch.no_grad():
        ours.weight_hh_l0.set_(data)
    assert_equal(flat(ours(x)), want)
    data.zero_()
    assert not torch.equal(ours(x)[0], want[0])
