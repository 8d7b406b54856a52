"""What `torch.nn.LSTM` lacks, against steps written out one by one."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fastrnn

FEATURES, H, T, B = 3, 5, 7, 4
LENGTHS = [7, 0, 3, 6]


def normalised(z: Tensor) -> Tensor:
    centred = z - z.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def one_sequence(
    layer: fastrnn.LSTM,
    x: Tensor,
    suffix: str,
    mask: Tensor | float = 1.0,
    zoneout: tuple[float, float] = (0.0, 0.0),
    state: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One direction over one sequence ``[T, FEATURES]`` without a batch: y, and the last state."""

    def p(name: str) -> Tensor:
        return getattr(layer, name + suffix)  # type: ignore[no-any-return]

    h, c = state or (x.new_zeros(H), x.new_zeros(H))
    outputs = []
    for x_t in x:
        from_x, from_h = p("weight_ih") @ x_t, p("weight_hh") @ (h * mask)
        if layer.layer_norm:
            from_x, from_h = normalised(from_x) * p("norm_ih"), normalised(from_h) * p("norm_hh")
        z = from_x + from_h + p("bias_ih") + p("bias_hh")
        if layer.coupled_gates:
            i, g, o = z[:H].sigmoid(), z[H : 2 * H].tanh(), z[2 * H :].sigmoid()
            f = 1 - i
        else:
            i, f, o = z[:H].sigmoid(), z[H : 2 * H].sigmoid(), z[3 * H :].sigmoid()
            g = z[2 * H : 3 * H].tanh()
        new_c = f * c + i * g
        seen = new_c
        if layer.layer_norm:
            seen = normalised(new_c) * p("norm_cell") + p("norm_cell_bias")
        h = zoneout[0] * h + (1 - zoneout[0]) * o * seen.tanh()
        c = zoneout[1] * c + (1 - zoneout[1]) * new_c
        outputs.append(h)
    return torch.stack(outputs) if outputs else x.new_zeros(0, H), h, c


def step_by_step(
    layer: fastrnn.LSTM, x: Tensor, lengths: list[int], **options: object
) -> tuple[Tensor, Tensor, Tensor]:
    """All of a one-layer module's sequences and directions, each alone."""
    suffixes = ["_l0", "_l0_reverse"][: 2 if layer.bidirectional else 1]
    y = x.new_zeros(T, B, H * len(suffixes))
    h_n, c_n = x.new_zeros(len(suffixes), B, H), x.new_zeros(len(suffixes), B, H)
    for d, suffix in enumerate(suffixes):
        for b, length in enumerate(lengths):
            own = x[:length, b].flip(0) if d else x[:length, b]
            out, h_n[d, b], c_n[d, b] = one_sequence(layer, own, suffix, **options)  # type: ignore[arg-type]
            y[:length, b, d * H : (d + 1) * H] = out.flip(0) if d else out
    return y, h_n, c_n


def both(
    layer: fastrnn.LSTM, run: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor
) -> list[Tensor]:
    """Outputs, and the gradients of the input and of every parameter."""
    outputs = run(x)
    torch.manual_seed(1)
    loss = sum((o * torch.randn_like(o)).sum() for o in outputs)
    return [*outputs, *torch.autograd.grad(loss, [x, *layer.parameters()])]  # type: ignore[arg-type]


def assert_as_step_by_step(layer: fastrnn.LSTM, lengths: list[int], **options: object) -> None:
    x = torch.randn(T, B, FEATURES, dtype=torch.float64, requires_grad=True)

    def ours(x: Tensor) -> tuple[Tensor, ...]:
        y, state = layer(x, lengths=lengths)
        return y, *state

    wanted = both(layer, lambda x: step_by_step(layer, x, lengths, **options), x)
    for got, want in zip(both(layer, ours, x), wanted, strict=True):
        torch.testing.assert_close(got, want)


def build(**options: object) -> fastrnn.LSTM:
    torch.manual_seed(0)
    layer = fastrnn.LSTM(FEATURES, H, dtype=torch.float64, **options)  # type: ignore[arg-type]
    for parameter in layer.parameters():  # not only the ones and zeros of layer normalisation
        parameter.data += 0.1 * torch.randn_like(parameter)
    return layer


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [[T] * B, LENGTHS], ids=["full", "variable"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layer_norm": True},
        {"coupled_gates": True},
        {"layer_norm": True, "coupled_gates": True},
    ],
    ids=str,
)
def test_cells(options: dict[str, object], lengths: list[int], bidirectional: bool) -> None:
    assert_as_step_by_step(build(bidirectional=bidirectional, **options), lengths)


@pytest.mark.parametrize("zoneout", [0.3, (0.1, 0.4)])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_zoneout_without_training_is_its_expectation(
    zoneout: float | tuple[float, float], bidirectional: bool
) -> None:
    layer = build(zoneout=zoneout, bidirectional=bidirectional).eval()
    pair = zoneout if isinstance(zoneout, tuple) else (zoneout, zoneout)
    assert_as_step_by_step(layer, LENGTHS, zoneout=pair)


def test_zoneout_in_training_keeps_units_with_its_probability() -> None:
    layer = fastrnn.LSTM(1, 50, zoneout=(0.25, 0.0))
    y, _ = layer(torch.randn(60, 20, 1))
    kept = (y[1:] == y[:-1]).double().mean().item()
    # 59 * 20 * 50 draws: a standard error of 0.0018.
    assert abs(kept - 0.25) < 0.01
    y, (_, c_n) = fastrnn.LSTM(1, 50, zoneout=(0.0, 1.0))(torch.randn(60, 20, 1))
    assert (c_n == 0).all()


def test_recurrent_dropout_draws_one_mask_for_all_steps() -> None:
    layer = fastrnn.LSTM(FEATURES, 200, recurrent_dropout=0.5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        # The state is tanh(tanh(1)/2) / 2 after a step; each unit adds its own to its output gate.
        layer.bias_ih_l0[400:600] = 1.0
        layer.weight_hh_l0[600:].copy_(torch.eye(200))
        y, _ = layer(torch.zeros(4, B, FEATURES))
    first = torch.tensor(1.0).tanh().div(2).tanh() / 2
    torch.testing.assert_close(y[0], first.expand(B, 200))
    dropped = [step == step[0, 0].new_tensor(0.5) * c for step, c in zip(y, cells(4), strict=True)]
    assert torch.equal(dropped[1], dropped[2])
    assert torch.equal(dropped[1], dropped[3])
    assert 0.4 < dropped[1].double().mean() < 0.6
    assert not torch.equal(dropped[1][0], dropped[1][1])  # each sequence has its own


def cells(steps: int) -> Tensor:
    """The tanh of the cell state of that layer, by step."""
    c, values = torch.tensor(0.0), []
    for _ in range(steps):
        c = 0.5 * c + 0.5 * torch.tensor(1.0).tanh()
        values.append(c.tanh())
    return torch.stack(values)


def test_recurrent_dropout_gives_what_its_mask_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = torch.tensor([2.0, 0.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr(
        torch.nn.functional, "dropout", lambda ones, p: ones * mask if p == 0.5 else ones
    )
    layer = build(recurrent_dropout=0.5, bidirectional=True)
    assert_as_step_by_step(layer, LENGTHS, mask=mask)


@pytest.mark.parametrize("options", [{"recurrent_dropout": 0.5}, {"zoneout": 0.5}], ids=str)
def test_draws_follow_the_seed_and_the_mode(options: dict[str, object]) -> None:
    layer, x = fastrnn.LSTM(FEATURES, H, 2, **options), torch.randn(T, B, FEATURES)  # type: ignore[arg-type]

    def seeded() -> Tensor:
        torch.manual_seed(5)
        return layer(x)[0]

    assert torch.equal(seeded(), seeded())
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


OPTIONS: list[dict[str, object]] = [
    {},
    {"layer_norm": True},
    {"zoneout": 0.2},
    {"coupled_gates": True},
]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_reset_makes_the_parts_sequences_of_their_own(
    options: dict[str, object], bidirectional: bool
) -> None:
    layer = build(bidirectional=bidirectional, **options).eval()
    x = torch.randn(T, B, FEATURES, dtype=torch.float64)
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[[0, 2, 3, 5], [1, 0, 0, 1]] = True
    hx = fastrnn.LSTMState(*(torch.randn(1 + bidirectional, B, H).double() for _ in range(2)))
    y, state = layer(x, hx, reset=reset)
    for b, cuts in enumerate([[0, 2, 3, 7], [0, 0, 5, 7], [0, 7], [0, 7]]):
        for start, end in itertools.pairwise(cuts):
            if start == end:
                continue
            first, last = start == 0 and not reset[0, b], end == T
            own = hx.sequences(slice(b, b + 1))
            keep = torch.tensor([first, last])[: 1 + bidirectional, None, None]
            own = fastrnn.LSTMState(*(torch.where(keep, s, 0.0) for s in own))
            part, part_state = layer(x[start:end, b : b + 1], own)
            torch.testing.assert_close(y[start:end, b : b + 1], part)
            if last:
                torch.testing.assert_close(state.h[0, b], part_state.h[0, 0])
                torch.testing.assert_close(state.c[0, b], part_state.c[0, 0])
            if bidirectional and start == 0:
                torch.testing.assert_close(state.h[1, b], part_state.h[1, 0])


def test_reset_lets_no_nan_and_no_gradient_through() -> None:
    layer = fastrnn.LSTM(FEATURES, H)
    x = torch.randn(T, B, FEATURES)
    x[1, 2] = torch.nan
    x.requires_grad_()
    reset = torch.zeros(T, B, dtype=torch.bool)
    reset[3] = True
    y, _ = layer(x, reset=reset)
    assert y[3:].isfinite().all()
    (grad,) = torch.autograd.grad(y[3:, [0, 1, 3]].sum(), x)
    assert (grad[:3, [0, 1, 3]] == 0).all()
    assert (grad[3:, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_reset_goes_with_the_layout_of_the_input(batch_first: bool) -> None:
    layer = fastrnn.LSTM(FEATURES, H, 2, bidirectional=True)
    x, reset = torch.randn(T, B, FEATURES), torch.rand(T, B) < 0.3
    want, _ = layer(x, reset=reset)
    layer.batch_first = batch_first
    if batch_first:
        got = layer(x.transpose(0, 1), reset=reset.t())[0].transpose(0, 1)
        assert torch.equal(got, want)
    alone, _ = layer(x[:, 0], reset=reset[:, 0])
    torch.testing.assert_close(alone, want[:, 0])


def test_lengths_and_resets_together() -> None:
    layer = build(bidirectional=True)
    x, reset = torch.randn(T, B, FEATURES, dtype=torch.float64), torch.rand(T, B) < 0.4
    y, _ = layer(x, lengths=LENGTHS, reset=reset)
    for b, length in enumerate(LENGTHS):
        if length:
            alone, _ = layer(x[:length, b], reset=reset[:length, b])
            torch.testing.assert_close(y[:length, b], alone)


# Raised by torch's own tracing of any autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("options", [*OPTIONS, {"recurrent_dropout": 0.3}], ids=str)
def test_several_layers_compiled_with_any_number_of_steps(options: dict[str, object]) -> None:
    layer = fastrnn.LSTM(FEATURES, H, 2, **options).eval()  # type: ignore[arg-type]
    run = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for t, b in ((7, 4), (9, 3)):
        x, reset = torch.randn(t, b, FEATURES), torch.rand(t, b) < 0.3
        torch.testing.assert_close(run(x, reset=reset)[0], layer(x, reset=reset)[0])
        run(x, reset=reset)[0].sum().backward()


def test_which_backends_run_them() -> None:
    for options in ({"coupled_gates": True}, {"recurrent_dropout": 0.5}):
        with fastrnn.use_backend("cpu"):
            fastrnn.LSTM(FEATURES, H, **options)(
                torch.randn(T, B, FEATURES), reset=torch.zeros(T, B).bool()
            )
    for options in ({"layer_norm": True}, {"zoneout": 0.5}):
        layer = fastrnn.LSTM(FEATURES, H, **options)  # type: ignore[arg-type]
        with fastrnn.use_backend("cpu"), pytest.raises(ValueError, match="not implemented"):
            layer(torch.randn(T, B, FEATURES))


def gate_bias(layer: fastrnn.LSTM, gate: int, suffix: str = "_l0") -> Tensor:
    part = slice(gate * layer.hidden_size, (gate + 1) * layer.hidden_size)
    biases = [getattr(layer, f"bias_{kind}{suffix}")[part].detach() for kind in ("ih", "hh")]
    return biases[0] + biases[1]


def test_forget_bias() -> None:
    layer = fastrnn.LSTM(FEATURES, 64, 2, bidirectional=True, forget_bias=1.5)
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        assert (gate_bias(layer, 1, suffix) == 1.5).all()
        assert gate_bias(layer, 0, suffix).std() > 0
    coupled = fastrnn.LSTM(FEATURES, 64, forget_bias=1.5, coupled_gates=True)
    assert (gate_bias(coupled, 0) == -1.5).all()  # f = sigmoid(-z_i)
    assert gate_bias(coupled, 1).std() > 0


@pytest.mark.parametrize("options", [{}, {"coupled_gates": True}, {"proj_size": 8}], ids=str)
def test_orthogonal(options: dict[str, object]) -> None:
    layer = fastrnn.LSTM(FEATURES, 16, 2, init="orthogonal", **options)  # type: ignore[arg-type]
    gates = 3 if layer.coupled_gates else 4
    for block in (*layer.weight_hh_l0.chunk(gates), *layer.weight_hh_l1.chunk(gates)):
        gram = block.t() @ block
        torch.testing.assert_close(gram, torch.eye(len(gram)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_orthogonal_in_sixteen_bits(dtype: torch.dtype) -> None:
    layer = fastrnn.LSTM(FEATURES, 16, init="orthogonal", dtype=dtype)
    block = layer.weight_hh_l0[:16].float()
    torch.testing.assert_close(block.t() @ block, torch.eye(16), rtol=0, atol=0.05)


def test_an_option_leaves_the_other_weights_as_they_are_drawn_without_it() -> None:
    torch.manual_seed(4)
    plain = fastrnn.LSTM(FEATURES, H, 2).state_dict()
    for options in ({"layer_norm": True}, {"forget_bias": 1.0}, {"init": "orthogonal"}):
        torch.manual_seed(4)
        layer = fastrnn.LSTM(FEATURES, H, 2, **options)  # type: ignore[arg-type]
        assert torch.equal(layer.weight_ih_l1, plain["weight_ih_l1"])


def test_chrono() -> None:
    layer = fastrnn.LSTM(FEATURES, 2000, init="chrono", chrono_range=(10, 100))
    forget = gate_bias(layer, 1)
    steps = forget.exp() + 1
    assert 9.99 < steps.min() < 12
    assert 98 < steps.max() < 100.01
    assert abs(steps.mean() - 55) < 3  # a standard error of 0.6
    torch.testing.assert_close(gate_bias(layer, 0), -forget)
    coupled = fastrnn.LSTM(FEATURES, 50, init="chrono", chrono_range=(10, 10), coupled_gates=True)
    torch.testing.assert_close(gate_bias(coupled, 0).sigmoid(), torch.full((50,), 0.1))


def test_parameters_and_their_names() -> None:
    layer = fastrnn.LSTM(FEATURES, H, layer_norm=True, coupled_gates=True, bidirectional=True)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes["weight_ih_l0"] == (15, 3)
    assert shapes["bias_hh_l0_reverse"] == (15,)
    assert shapes["norm_ih_l0"] == (15,)
    assert shapes["norm_cell_bias_l0_reverse"] == (5,)
    assert (layer.norm_hh_l0 == 1).all()
    assert (layer.norm_cell_bias_l0 == 0).all()
    twin = fastrnn.LSTM(FEATURES, H, layer_norm=True, coupled_gates=True, bidirectional=True)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, FEATURES)
    assert torch.equal(layer(x)[0], twin(x)[0])
    assert "layer_norm=True, coupled_gates=True" in repr(layer)


def test_a_module_says_what_it_was_built_with() -> None:
    layer = fastrnn.LSTM(FEATURES, H, zoneout=0.1, forget_bias=1.0, recurrent_dropout=0.2)
    assert repr(layer) == ("LSTM(3, 5, recurrent_dropout=0.2, zoneout=(0.1, 0.1), forget_bias=1.0)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recurrent_dropout": 1.5}, "recurrent_dropout is 1.5; it should be a probability"),
        ({"zoneout": -0.1}, "zoneout is -0.1; it should be a probability"),
        ({"zoneout": (0.1, 0.2, 0.3)}, "zoneout is .*; it should be two probabilities"),
        ({"recurrent_dropout": "0.1"}, "recurrent_dropout is '0.1'; it should be a probability"),
        ({"recurrent_dropout": True}, "recurrent_dropout is True; it should be a probability"),
        ({"zoneout": [0.1, 0.2]}, r"zoneout is \[0.1, 0.2\]; it should be a probability"),
        ({"zoneout": (0.1, None)}, "zoneout is None; it should be a probability"),
        ({"forget_bias": float("nan")}, "forget_bias is nan; it should be a number"),
        ({"forget_bias": "1"}, "forget_bias is '1'; it should be a number"),
        ({"init": "chrono", "chrono_range": (2,)}, r"chrono_range is \(2,\)"),
        ({"init": "chrono", "chrono_range": 5}, "chrono_range is 5"),
        ({"init": "chrono", "chrono_range": (2, float("inf"))}, r"chrono_range is \(2, inf\)"),
        ({"init": "xavier"}, "init is 'xavier'; it should be one of 'uniform', 'orthogonal'"),
        ({"init": "chrono"}, "chrono_range is None with init='chrono'; it should be given"),
        ({"chrono_range": (2, 9)}, r"chrono_range is \(2, 9\) with init='uniform'"),
        ({"init": "chrono", "chrono_range": (1, 9)}, r"chrono_range is \(1, 9\).*at least 2"),
        ({"init": "chrono", "chrono_range": (2, 9), "bias": False}, "bias=False"),
        ({"init": "chrono", "chrono_range": (2, 9), "forget_bias": 1.0}, "forget_bias is given"),
        ({"forget_bias": 1.0, "bias": False}, "forget_bias is given with bias=False"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastrnn.LSTM(FEATURES, H, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["layer_norm", "coupled_gates"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_switches_are_booleans(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} is {value!r}; it should be True or False"):
        fastrnn.LSTM(FEATURES, H, **{name: value})  # type: ignore[arg-type]


def test_zoneout_set_later_is_checked() -> None:
    layer = fastrnn.LSTM(FEATURES, H)
    layer.zoneout = 0.5  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"zoneout is 0.5; it should be two probabilities"):
        layer(torch.zeros(T, B, FEATURES))


@pytest.mark.parametrize(
    ("reset", "error", "message"),
    [
        (torch.zeros(T, B), TypeError, "reset has dtype torch.float32; it should be"),
        (torch.zeros(B, T).bool(), ValueError, r"reset has shape \[4, 7\]; it should be \[7, 4\]"),
        ([True] * T, TypeError, "reset is a list; it should be a tensor"),
    ],
)
def test_wrong_resets(reset: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fastrnn.LSTM(FEATURES, H)(torch.zeros(T, B, FEATURES), reset=reset)


def test_resets_are_for_padded_input_only() -> None:
    layer, reset = fastrnn.LSTM(FEATURES, H), torch.zeros(T, B).bool()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.zeros(T, B, FEATURES), torch.tensor([7] * B)
    )
    with pytest.raises(ValueError, match="reset is given for a PackedSequence"):
        layer(packed, reset=reset)
    nested = torch.nested.nested_tensor([torch.zeros(2, FEATURES)], layout=torch.jagged)
    with pytest.raises(ValueError, match="reset is given for a nested tensor"):
        layer(nested, reset=reset)


@pytest.mark.parametrize("option", ["recurrent_dropout", "zoneout"])
def test_vmap_draws_once_for_all_or_for_each(option: str) -> None:
    layer = fastrnn.LSTM(FEATURES, H, **{option: 0.5})
    x = torch.ones(2, T, B, FEATURES)
    same, other = (
        torch.func.vmap(lambda x: layer(x)[0], randomness=kind)(x) for kind in ("same", "different")
    )
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])
