"""Whatever numbers the native module is given: an answer, or an error that names the argument."""

import re
from collections.abc import Iterable, Set
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrnn import _cpu

RANGES = {
    "seq_len": (1, 2**63 - 1),
    "batch_size": (1, 2**63 - 1),
    "input_size": (1, 2**63 - 1),
    "hidden_size": (1, 2**63 - 1),
    "num_directions": (1, 2),
    "num_gates": (3, 4),
    "num_threads": (1, 65536),
}
SIZES = ("seq_len", "batch_size", "input_size", "hidden_size", "num_directions", "num_gates")
VALID = {
    "isa": "",
    "float64": False,
    "seq_len": 3,
    "batch_size": 2,
    "input_size": 4,
    "hidden_size": 5,
    "num_directions": 2,
    "num_gates": 4,
    "lengths": 0,
    "reset": 0,
    "state_mask": 0,
    "num_threads": 2,
}

small = st.integers(1, 5)
wrong = st.one_of(st.integers(-5, 0), st.integers(-(2**63), -1), st.just(-(2**63)))
huge = st.one_of(st.integers(2**40, 2**63 - 1), st.sampled_from([2**31, 2**32, 2**62, 2**63 - 1]))
size = st.one_of(small, small, small, huge, wrong)
numbers = st.fixed_dictionaries(
    {
        "seq_len": size,
        # A plan has an entry for each sequence; none that there is no memory for, but might be.
        "batch_size": st.one_of(small, small, small, st.integers(2**60, 2**63 - 1), wrong),
        "input_size": size,
        "hidden_size": size,
        "num_directions": st.one_of(st.integers(1, 2), st.integers(1, 2), size),
        "num_gates": st.one_of(st.integers(3, 4), st.integers(3, 4), size),
        "num_threads": size,
    }
)


def largest_array(n: dict[str, int], itemsize: int) -> int:
    """Bytes of the largest array that the caller has to bring."""
    t, b, i, h, d, g = (n[name] for name in SIZES)
    return itemsize * max(t * b * i * d, t * b * d * 5 * h, d * g * h * max(i, h))


@given(numbers=numbers, float64=st.booleans())
def test_any_sizes_give_a_plan_or_an_error_that_names_one(
    numbers: dict[str, int], float64: bool
) -> None:
    arguments = {**VALID, **numbers, "float64": float64}
    beyond = {
        name: value
        for name, value in numbers.items()
        if not RANGES[name][0] <= value <= RANGES[name][1]
    }
    if beyond:
        named = "|".join(f"{name} is {value}" for name, value in beyond.items())
        with pytest.raises(ValueError, match=f"^({named}); it should be (at least|between) "):
            _cpu.Call(**arguments)
    elif largest_array(numbers, 8 if float64 else 4) >= 2**60:
        named = ", ".join(f"{name}={numbers[name]}" for name in SIZES)
        with pytest.raises(MemoryError, match=f"^{named}: .* would take 2.60 bytes or more"):
            _cpu.Call(**arguments)
    else:
        try:
            call = _cpu.Call(**arguments)
        except MemoryError as error:  # of the workspace or the work, whose formulas are the core's
            found = re.search("the (workspace|call) would take", str(error))
        else:
            found = call.forward_workspace() > 0 and call.backward_workspace(True, True) > 0
        assert found


# No environment variable holds a null character, or what UTF-8 cannot say.
@given(isa=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8))
def test_any_name_of_an_instruction_set_is_known_or_named(isa: str) -> None:
    if isa in ("", *_cpu.usable_isas()):
        assert _cpu.Call(**{**VALID, "isa": isa}).num_threads == 1
        return
    with pytest.raises(ValueError, match=r"^FASTRNN_CPU_ISA is '(.|\s)*portable") as caught:
        _cpu.Call(**{**VALID, "isa": isa})
    assert f"'{isa}'" in str(caught.value)


@pytest.mark.parametrize("name", [*RANGES, "lengths", "reset", "state_mask"])
@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 1.5, None, "3"], ids=str)
def test_what_is_no_integer_of_64_bits_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name}="):
        _cpu.Call(**{**VALID, name: value})


def test_steps_may_be_as_many_as_there_could_be_memory_for() -> None:
    most = 2**60 // (4 * 2 * 2 * 5 * 5)  # of float32, two rows, two directions, five planes
    assert _cpu.Call(**{**VALID, "seq_len": most // 8}).forward_workspace() > 0
    with pytest.raises(MemoryError, match=f"^seq_len={most + 1}, .*: the reserve would take"):
        _cpu.Call(**{**VALID, "seq_len": most + 1})


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        ({"seq_len": 2**59}, "x"),
        ({"seq_len": 2**40, "hidden_size": 2**20}, "y"),
        ({"seq_len": 2**40, "hidden_size": 2**15}, "the reserve"),
        ({"seq_len": 2**40, "input_size": 2**16}, "grad_x"),
        ({"hidden_size": 2**20, "input_size": 2**36}, "w_ih"),
        ({"hidden_size": 2**28}, "w_hh"),
        ({"hidden_size": 2**25, "num_threads": 2**12}, "the workspace"),
        ({"seq_len": 2**40, "hidden_size": 2**12}, "the call"),
    ],
)
def test_what_takes_too_much_is_named(sizes: dict[str, int], what: str) -> None:
    with pytest.raises(MemoryError, match=f": {what} would take 2.60 "):
        _cpu.Call(**{**VALID, **sizes})


class Arrays:
    """What a call of the sizes in `VALID` takes, by name; the results are full of NaN."""

    def __init__(self) -> None:
        t, b, i, h, d, g = 3, 2, 4, 5, 2, 4
        rows, states, steps = (d, g * h), (d, b, h), (t, b, d * h)
        self.call = _cpu.Call(**VALID)
        inputs = {
            "x": torch.randn(t, b, i),
            "w_ih": torch.randn(*rows, i),
            "w_hh": torch.randn(*rows, h),
            "h_0": torch.randn(states),
            "c_0": torch.randn(states),
        }
        self.results = {
            "y": nans(*steps),
            "h_n": nans(*states),
            "c_n": nans(*states),
            "reserve": nans(t, b, d, _cpu.reserve_planes, h),
        }
        self.gradients = {
            "grad_x": nans(d, t, b, i),
            "grad_w_ih": nans(*rows, i),
            "grad_w_hh": nans(*rows, h),
            "grad_bias": nans(*rows),
            "grad_h_0": nans(*states),
            "grad_c_0": nans(*states),
        }
        self.forward = {
            **inputs,
            **self.results,
            "bias": torch.randn(rows),
            "workspace": nans(self.call.forward_workspace()),
        }
        self.backward = {
            **inputs,
            **self.gradients,
            "y": self.results["y"],
            "reserve": self.results["reserve"],
            "grad_y": torch.randn(steps),
            "grad_h_n": torch.randn(states),
            "grad_c_n": torch.randn(states),
            "workspace": nans(self.call.backward_workspace(True, True)),
        }


def nans(*shape: int) -> Tensor:
    return torch.full(shape, torch.nan)


def addresses(
    arrays: dict[str, Tensor], missing: Set[str] = frozenset(), crooked: Set[str] = frozenset()
) -> dict[str, int]:
    """Where the arrays are, which must stay alive: 0 for some, between two elements for others."""
    return {
        name: 0 if name in missing else tensor.data_ptr() + (name in crooked)
        for name, tensor in arrays.items()
    }


def some_of(names: Iterable[str]) -> st.SearchStrategy[set[str]]:
    return st.one_of(st.just(set()), st.sets(st.sampled_from(sorted(names)), max_size=3))


@given(missing=some_of(Arrays().forward), crooked=some_of(Arrays().forward))
def test_forward_does_without_optional_arrays_only(missing: set[str], crooked: set[str]) -> None:
    arrays = Arrays()
    required = {"x", "w_ih", "w_hh", "y", "h_n", "c_n", "workspace"}
    bad = (missing & required) | (crooked - missing)
    numbers = addresses(arrays.forward, missing, crooked)
    if bad:
        message = rf"^({'|'.join(bad)}) is (0|at address \d+); it should be"
        with pytest.raises(ValueError, match=message):
            arrays.call.forward(**numbers)
    else:
        arrays.call.forward(**numbers)
    for name in arrays.results.keys() - missing:
        tensor = arrays.results[name]
        assert (tensor.isnan() if bad else tensor.isfinite()).all()


@given(missing=some_of(Arrays().backward), crooked=some_of(Arrays().backward))
def test_backward_does_without_optional_arrays_only(missing: set[str], crooked: set[str]) -> None:
    arrays = Arrays()
    arrays.call.forward(**addresses(arrays.forward))
    required = {"x", "w_ih", "w_hh", "y", "reserve", "grad_h_0", "grad_c_0", "workspace"}
    bad = (missing & required) | (crooked - missing)
    weights = {"grad_w_ih", "grad_w_hh", "grad_bias"}
    if 0 < len(missing & weights) < len(weights):
        bad.add("of grad_w_ih, grad_w_hh and grad_bias some")
    numbers = addresses(arrays.backward, missing, crooked)
    if bad:
        message = rf"^({'|'.join(bad)}) (is (0|at address \d+); it|are 0; all of them) should be"
        with pytest.raises(ValueError, match=message):
            arrays.call.backward(**numbers)
    else:
        arrays.call.backward(**numbers)
    for name in arrays.gradients.keys() - missing:
        tensor = arrays.gradients[name]
        assert (tensor.isnan() if bad else tensor.isfinite()).all()


@pytest.mark.parametrize(("name", "size"), [("lengths", 8), ("state_mask", 4)])
def test_arrays_of_the_plan_lie_at_multiples_of_their_elements(name: str, size: int) -> None:
    arrays, memory = Arrays(), torch.zeros(64, dtype=torch.int64)
    place = memory.data_ptr() + 1
    with pytest.raises(ValueError, match=f"{name} is at address {place}; .* multiple of {size}"):
        _cpu.Call(**{**VALID, name: place}).forward(**addresses(arrays.forward))
