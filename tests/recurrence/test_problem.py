"""Bad arguments are named, with what they were and what they should be."""

import pytest
import torch

from fastrnn.recurrence.ops import lstm_layer
from fastrnn.recurrence.problem import LayerArgs, Problem, as_lengths, check_lengths

from .conftest import Case


def good() -> LayerArgs:
    args, _ = Case(5, 3, 4, 6, 2, "random", states=True).build()
    return LayerArgs(*(None if t is None else t.detach() for t in args))


def test_a_good_call_is_described() -> None:
    problem = Problem.from_args(good(), training=True)
    assert (problem.seq_len, problem.batch_size, problem.input_size) == (5, 3, 4)
    assert (problem.hidden_size, problem.num_directions, problem.state_size) == (6, 2, 6)
    assert problem.variable_length
    assert problem.training


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(5, 4)}, ValueError, r"x has shape \[5, 4\]; it should be \[T, B, I\]"),
        ({"x": torch.zeros(0, 3, 4)}, ValueError, "x has no time steps"),
        ({"x": torch.zeros(5, 3, 4, dtype=torch.int64)}, TypeError, "x has dtype torch.int64"),
        ({"x": torch.zeros(5, 3, 9)}, ValueError, r"x has 9 features, but w_ih \[2, 24, 4\]"),
        ({"x": "strip"}, TypeError, "x is a str; it should be a tensor"),
        ({"w_ih": torch.zeros(3, 24, 4)}, ValueError, r"w_ih has shape \[3, 24, 4\]"),
        ({"w_ih": torch.zeros(2, 0, 4)}, ValueError, "no hidden units"),
        ({"w_hh": torch.zeros(2, 24, 5)}, ValueError, r"w_ih .* but w_hh \[2, 24, 5\] is of 5"),
        ({"w_hh": torch.zeros(1, 24, 6)}, ValueError, r"w_hh has shape .* should be \[2, 24, 6\]"),
        ({"w_hh": torch.zeros(2, 24, 6).double()}, TypeError, "w_hh has dtype torch.float64, but"),
        ({"bias": torch.zeros(24)}, ValueError, r"bias has shape \[24\]; it should be \[2, 24\]"),
        ({"w_hr": torch.zeros(2, 6)}, ValueError, r"w_hr has shape \[2, 6\]"),
        ({"h_0": torch.zeros(1, 3, 6)}, ValueError, r"h_0 has shape .* should be \[2, 3, 6\]"),
        ({"c_0": torch.zeros(2, 2, 6)}, ValueError, r"c_0 has shape .* should be \[2, 3, 6\]"),
        ({"h_0": torch.zeros(2, 3, 6, device="meta")}, ValueError, "h_0 is on meta, but x is on"),
        ({"lengths": torch.tensor([1.0, float("nan"), 2.0])}, TypeError, "lengths has dtype"),
        ({"lengths": torch.ones(3).long().to("meta")}, ValueError, "lengths is on meta"),
        ({"lengths": torch.tensor([1, 2])}, ValueError, r"lengths has shape \[2\].*\[3\]"),
        ({"lengths": torch.tensor([1, 6, 2])}, ValueError, r"lengths\[1\] is 6; .*between 0 and 5"),
        ({"lengths": torch.tensor([1, 2, -1])}, ValueError, r"lengths\[2\] is -1"),
        (
            {"w_ih": torch.zeros(2, 20, 4)},
            ValueError,
            r"\[D, 24, I\], or \[D, 18, I\] with coupled",
        ),
        ({"norm": torch.zeros(2, 24)}, ValueError, r"norm has shape .* should be \[2, 60\]"),
        ({"reset": torch.zeros(5, 3)}, TypeError, "reset has dtype torch.float32; .* torch.bool"),
        ({"reset": [True]}, TypeError, "reset is a list; it should be a tensor of torch.bool"),
        ({"reset": torch.zeros(3, 5).bool()}, ValueError, r"reset has shape \[3, 5\]; .* \[5, 3\]"),
        ({"reset": torch.zeros(5, 3, device="meta").bool()}, ValueError, "reset is on meta; .* x"),
        ({"recurrent_mask": torch.zeros(2, 6)}, ValueError, r"recurrent_mask .* \[2, 3, 6\]"),
        ({"zoneout": torch.zeros(2, 4, 1, 12)}, ValueError, r"zoneout .* be \[2, 5, 1, 12\]"),
        ({"zoneout": torch.zeros(12)}, ValueError, r"zoneout .* should be \[2, 5, 3, 12\]"),
    ],
)
def test_a_wrong_argument_is_named(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        lstm_layer(good()._replace(**change))  # type: ignore[arg-type]


def test_lengths_may_be_a_plain_sequence() -> None:
    assert as_lengths([3, 1]).tolist() == [3, 1]
    assert as_lengths([]).dtype == torch.int64
    with pytest.raises(TypeError, match=r"lengths has dtype torch\.float32"):
        check_lengths(as_lengths([1.0, 2.0]), 2, 5)  # type: ignore[list-item]


@pytest.mark.parametrize("lengths", [5, "ab", [None, 1]])
def test_lengths_that_are_no_integers_are_named(lengths: object) -> None:
    with pytest.raises(TypeError, match=r"lengths is .*a sequence of integers"):
        as_lengths(lengths)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [[1, 6, 2], [1, -5, 2], [-500, 60000, 1]])
def test_the_range_of_a_parameter_is_checked_as_well(values: list[int]) -> None:
    lengths = torch.nn.Parameter(torch.tensor(values), requires_grad=False)
    with pytest.raises(ValueError, match=r"lengths\[\d\] is -?\d+; .*between 0 and 5"):
        lstm_layer(good()._replace(lengths=lengths))


def test_lengths_on_the_cpu_cannot_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "fastrnn.recurrence.problem.is_capturing", lambda device: device.type == "meta"
    )
    elsewhere = good().map(lambda t: t.to("meta"))  # in the place of a GPU
    on_host = elsewhere._replace(lengths=torch.tensor([5, 1, 2]))
    with pytest.raises(ValueError, match=r"lengths is on the CPU.*graph.*should be on meta"):
        Problem.from_args(on_host, training=False)
    Problem.from_args(elsewhere, training=False)
    Problem.from_args(good(), training=False)


def test_the_native_module_checks_lengths_itself() -> None:
    from fastrnn import _cpu

    lengths = torch.tensor([2, 9])
    with pytest.raises(ValueError, match=r"lengths\[1\] is 9; .*between 0 and 4"):
        _cpu.Call(
            isa="", float64=False, seq_len=4, batch_size=2, input_size=1, hidden_size=1,
            num_directions=1, num_gates=4, lengths=lengths.data_ptr(), reset=0, state_mask=0,
            num_threads=1,
        )  # fmt: skip


def test_int32_lengths_give_the_same_result() -> None:
    args = good()
    assert args.lengths is not None
    narrow = args._replace(lengths=args.lengths.int())
    for a, b in zip(lstm_layer(args), lstm_layer(narrow), strict=True):
        assert torch.equal(a, b)
