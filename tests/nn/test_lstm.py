"""`fastrnn.LSTM` in the place of `torch.nn.LSTM`: same parameters, outputs, gradients, errors."""

import copy
import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import fastrnn

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

OPTIONS = [
    {},
    {"num_layers": 3},
    {"bias": False},
    {"bidirectional": True},
    {"batch_first": True},
    {"proj_size": 4},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "bidirectional": True, "proj_size": 3, "bias": False},
    {"num_layers": 2, "dtype": torch.float64},
]


@pytest.fixture(params=OPTIONS, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[torch.nn.LSTM, fastrnn.LSTM]:
    torch.manual_seed(0)
    stock = torch.nn.LSTM(5, 9, **request.param)
    ours = fastrnn.LSTM(5, 9, **request.param)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def inputs_for(module: torch.nn.RNNBase, seq_len: int = 7, batch_size: int = 4) -> Tensor:
    shape = (batch_size, seq_len, 5) if module.batch_first else (seq_len, batch_size, 5)
    return torch.randn(shape, dtype=module.weight_ih_l0.dtype)


def states_for(module: torch.nn.RNNBase, batch_size: int = 4) -> tuple[Tensor, Tensor]:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    dtype = module.weight_ih_l0.dtype
    return (
        torch.randn(rows, batch_size, module.proj_size or 9, dtype=dtype),
        torch.randn(rows, batch_size, 9, dtype=dtype),
    )


def run(
    module: torch.nn.RNNBase,
    x: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None,
    *inputs: Tensor,
) -> list[Tensor]:
    """Outputs, and the gradients of all parameters and of `inputs`."""
    y, (h_n, c_n) = module(x, hx)
    outputs = [y.data if isinstance(y, PackedSequence) else y, h_n, c_n]
    torch.manual_seed(1)
    loss = sum((o * torch.randn_like(o)).sum() for o in outputs)
    return [*outputs, *torch.autograd.grad(loss, [*module.parameters(), *inputs])]


def assert_same(got: list[Tensor], want: list[Tensor]) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_parameters_have_the_same_names_shapes_and_order(
    pair: tuple[torch.nn.LSTM, fastrnn.LSTM],
) -> None:
    stock, ours = pair
    assert [(n, p.shape) for n, p in ours.named_parameters()] == [
        (n, p.shape) for n, p in stock.named_parameters()
    ]
    assert repr(ours) == repr(stock)
    stock.load_state_dict(ours.state_dict())


def test_initialisation_is_the_same() -> None:
    torch.manual_seed(3)
    stock = torch.nn.LSTM(5, 9, num_layers=2, bidirectional=True)
    torch.manual_seed(3)
    ours = fastrnn.LSTM(5, 9, num_layers=2, bidirectional=True)
    for a, b in zip(stock.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("with_state", [False, True])
def test_outputs_and_gradients_are_the_same(
    pair: tuple[torch.nn.LSTM, fastrnn.LSTM], with_state: bool
) -> None:
    stock, ours = pair
    x = inputs_for(ours).requires_grad_()
    hx = None
    if with_state:
        h_0, c_0 = states_for(ours)
        hx = (h_0.requires_grad_(), c_0.requires_grad_())
    assert_same(run(ours, x, hx, x, *(hx or ())), run(stock, x, hx, x, *(hx or ())))


def test_one_sequence_without_a_batch(pair: tuple[torch.nn.LSTM, fastrnn.LSTM]) -> None:
    stock, ours = pair
    x = torch.randn(7, 5, dtype=ours.weight_ih_l0.dtype)
    h_0, c_0 = states_for(ours)
    assert_same(run(ours, x, None), run(stock, x, None))
    hx = (h_0[:, 0], c_0[:, 0])
    assert_same(run(ours, x, hx), run(stock, x, hx))


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_packed_sequences(
    pair: tuple[torch.nn.LSTM, fastrnn.LSTM], enforce_sorted: bool, with_state: bool
) -> None:
    stock, ours = pair
    lengths = torch.tensor([7, 6, 6, 2] if enforce_sorted else [3, 7, 1, 5])
    x = inputs_for(ours)
    packed = pack_padded_sequence(
        x, lengths, batch_first=ours.batch_first, enforce_sorted=enforce_sorted
    )
    hx = states_for(ours) if with_state else None
    assert_same(run(ours, packed, hx), run(stock, packed, hx))
    y, _ = ours(packed)
    assert isinstance(y, PackedSequence)
    assert torch.equal(y.batch_sizes, packed.batch_sizes)
    if not enforce_sorted:
        assert torch.equal(y.unsorted_indices, packed.unsorted_indices)


def test_lengths_give_what_packing_gives(pair: tuple[torch.nn.LSTM, fastrnn.LSTM]) -> None:
    _, ours = pair
    lengths = torch.tensor([3, 7, 1, 5])
    x = inputs_for(ours)
    packed = pack_padded_sequence(x, lengths, batch_first=ours.batch_first, enforce_sorted=False)
    want, want_state = ours(packed)
    got, got_state = ours(x, lengths=lengths)
    repacked = pack_padded_sequence(
        got, lengths, batch_first=ours.batch_first, enforce_sorted=False
    )
    assert_same([repacked.data, *got_state], [want.data, *want_state])


def test_zero_lengths_return_the_initial_state() -> None:
    layer = fastrnn.LSTM(5, 9, bidirectional=True)
    h_0, c_0 = states_for(layer)
    y, (h_n, c_n) = layer(torch.randn(7, 4, 5), (h_0, c_0), lengths=[0, 7, 0, 3])
    assert torch.equal(h_n[:, 0], h_0[:, 0])
    assert torch.equal(c_n[:, 2], c_0[:, 2])
    assert (y[:, [0, 2]] == 0).all()


def test_dropout_acts_between_layers_in_training_only() -> None:
    layer = fastrnn.LSTM(5, 9, num_layers=2, dropout=0.5)
    x = torch.randn(7, 4, 5)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])
    with pytest.warns(UserWarning, match="dropout"):
        single = fastrnn.LSTM(5, 9, dropout=0.5)
    assert torch.equal(single(x)[0], single(x)[0])


@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_every_backend_serves_the_module(backend: str) -> None:
    layer = fastrnn.LSTM(5, 9, num_layers=2, bidirectional=True)
    x = torch.randn(7, 4, 5)
    want, _ = layer(x)
    with fastrnn.use_backend(backend):
        got, _ = layer(x)
    torch.testing.assert_close(got, want)


def test_sixteen_bit_modules_work_on_the_cpu() -> None:
    layer = fastrnn.LSTM(5, 9).bfloat16()
    y, _ = layer(torch.randn(7, 4, 5).bfloat16())
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight_hh_l0.grad is not None


def test_copies_are_independent() -> None:
    layer = fastrnn.LSTM(5, 9)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        twin.weight_hh_l0.zero_()
    x = torch.randn(7, 4, 5)
    assert not torch.equal(layer(x)[0], twin(x)[0])


def test_parametrized_weights_are_seen() -> None:
    layer = fastrnn.LSTM(5, 9)
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_hh_l0")
    x = torch.randn(7, 4, 5)
    before = layer(x)[0]
    with torch.no_grad():
        layer.parametrizations.weight_hh_l0.original0.mul_(2)
    assert not torch.equal(layer(x)[0], before)


GOOD = torch.zeros(7, 4, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(torch.zeros(7)), ValueError, "2D or 3D, got 1D"),
        (lambda m: m(torch.zeros(7, 4, 6)), RuntimeError, "Expected 5, got 6"),
        (lambda m: m(GOOD.double()), ValueError, "dtype"),
        (lambda m: m(torch.zeros(0, 4, 5)), ValueError, "no time steps"),
        (lambda m: m(GOOD, (torch.zeros(1, 3, 9),) * 2), RuntimeError, r"hx\[0\] size"),
        (lambda m: m(GOOD, (torch.zeros(4, 9),) * 2), RuntimeError, "should also be 3-D"),
        (lambda m: m(GOOD[:, 0], (torch.zeros(1, 1, 9),) * 2), RuntimeError, "also be 2-D"),
        (lambda m: m(GOOD, lengths=[7, 7, 8, 1]), ValueError, r"lengths\[2\] is 8"),
        (lambda m: m(GOOD, lengths=[7, 7]), ValueError, r"lengths has shape \[2\]"),
        (lambda m: m(GOOD, lengths=torch.ones(4) * torch.nan), TypeError, "lengths has dtype"),
        (lambda m: m(GOOD[:, 0], lengths=[3]), ValueError, "lengths is given for a 2-D input"),
        (
            lambda m: m(pack_sequence([torch.zeros(3, 5)]), lengths=[3]),
            ValueError,
            "lengths is given for a PackedSequence",
        ),
        (lambda _: fastrnn.LSTM(5, 0), ValueError, "hidden_size must be greater than zero"),
        (lambda _: fastrnn.LSTM(5, 4, proj_size=4), ValueError, "proj_size"),
    ],
)
def test_wrong_arguments(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(fastrnn.LSTM(5, 9))  # type: ignore[operator]


def test_any_size_equals_stock() -> None:
    for t, b, i, h in itertools.product((1, 4), (1, 3), (1, 6), (1, 8)):
        stock = torch.nn.LSTM(i, h, bidirectional=True)
        ours = fastrnn.LSTM(i, h, bidirectional=True)
        ours.load_state_dict(stock.state_dict())
        x = torch.randn(t, b, i)
        assert_same(run(ours, x, None), run(stock, x, None))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_last_state_alone_is_the_same_and_trains_the_same(
    bidirectional: bool, batch_first: bool
) -> None:
    layer = fastrnn.LSTM(3, 8, 2, bidirectional=bidirectional, batch_first=batch_first)
    x = torch.randn(4, 6, 3) if batch_first else torch.randn(6, 4, 3)
    lengths = [6, 0, 3, 1]
    _, (h_n, c_n) = layer(x, lengths=lengths)
    (h_n.sum() + c_n.sum()).backward()
    want = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    y, (h_alone, c_alone) = layer(x, lengths=lengths, last_state_only=True)
    assert 0 in y.shape
    assert y.shape[0 if batch_first else 1] == 4
    assert torch.equal(h_alone, h_n)
    assert torch.equal(c_alone, c_n)
    (h_alone.sum() + c_alone.sum()).backward()
    for parameter, grad in zip(layer.parameters(), want, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_the_last_state_alone_of_one_sequence() -> None:
    layer, x = fastrnn.LSTM(3, 8), torch.randn(6, 3)
    y, (h_n, _) = layer(x, last_state_only=True)
    assert y.shape == (0, 8)
    assert torch.equal(h_n, layer(x)[1][0])


def test_packed_sequences_have_no_last_state_only() -> None:
    packed = pack_padded_sequence(torch.randn(6, 2, 3), torch.tensor([6, 2]))
    with pytest.raises(ValueError, match="last_state_only is True for a PackedSequence"):
        fastrnn.LSTM(3, 8)(packed, last_state_only=True)
