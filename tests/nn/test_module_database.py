"""What torch checks of every module in its database (its ``test_modules.py``), with our LSTM.

The samples are torch's own: constructor arguments and inputs of `torch.nn.LSTM`, in two dtypes, in
training and in evaluation, and wrong calls with the error that torch expects of each.
"""

import copy
import io
import itertools
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fastrnn

from .side_by_side import assert_equal, error_of, flat, gradients, make_pair

# Torch says once that oneDNN, which it uses on the CPU, has no projections.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported"),
]

Sample = dict[str, Any]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    path = tmp_path_factory.mktemp("database") / "samples.pt"
    script = Path(__file__).with_name("torch_samples.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stored: dict[str, list[Sample]] = torch.load(path)
    return stored


@pytest.fixture(scope="module")
def samples(database: dict[str, list[Sample]]) -> list[Sample]:
    """32 of each dtype and mode: all options, with and without a state, one sequence each."""
    assert len(database["samples"]) >= 128
    return database["samples"]


def build(sample: Sample) -> fastrnn.LSTM:
    torch.manual_seed(0)
    layer = fastrnn.LSTM(**sample["options"]).to(sample["dtype"])
    layer.train(sample["training"])
    return layer


def tensors_of(inputs: tuple[Any, ...]) -> list[Tensor]:
    """x, and h_0 and c_0 where they are given."""
    x, *hx = inputs
    return [x, *(hx[0] if hx else ())]


def call(layer: torch.nn.Module, tensors: list[Tensor]) -> list[Tensor]:
    x, *hx = tensors
    return flat(layer(x, tuple(hx)) if hx else layer(x))


def asking(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().clone().requires_grad_() for t in tensors]


def test_forward(samples: list[Sample]) -> None:
    """One sequence gives what a batch of one gives, and what stock gives."""
    for sample in samples:
        layer = build(sample)
        stock = torch.nn.LSTM(**sample["options"]).to(sample["dtype"])
        stock.load_state_dict(layer.state_dict())
        inputs = tensors_of(sample["inputs"])
        got = call(layer, inputs)
        batch_dim = 0 if layer.batch_first else 1
        x, *hx = inputs
        y, h_n, c_n = call(layer, [x.unsqueeze(batch_dim), *(s.unsqueeze(1) for s in hx)])
        assert_equal(got, [y.squeeze(batch_dim), h_n.squeeze(1), c_n.squeeze(1)], sample["options"])
        assert_equal(got, call(stock, inputs), sample["options"])


def test_factory_arguments(samples: list[Sample]) -> None:
    """Device and dtype given to the constructor are those of every parameter, as in stock."""
    for sample, device in itertools.product(samples, ("cpu", "meta")):
        made = {**sample["options"], "device": device, "dtype": sample["dtype"]}
        stock, ours = torch.nn.LSTM(**made), fastrnn.LSTM(**made)
        assert [describe(p) for p in ours.parameters()] == [describe(p) for p in stock.parameters()]


def test_parameters_made_under_a_device(samples: list[Sample]) -> None:
    """Inside ``torch.device("meta")`` the same parameters come into being without data."""
    for sample in samples:
        with torch.device("meta"):
            stock, ours = (kind(**sample["options"]) for kind in (torch.nn.LSTM, fastrnn.LSTM))
        assert all(p.is_meta for p in ours.parameters())
        assert [describe(p) for p in ours.parameters()] == [describe(p) for p in stock.parameters()]


def describe(parameter: Tensor) -> tuple[object, ...]:
    return (
        tuple(parameter.shape),
        parameter.stride(),
        parameter.dtype,
        str(parameter.device),
        parameter.requires_grad,
        type(parameter),
    )


def test_a_layer_on_the_meta_device_knows_its_shapes(samples: list[Sample]) -> None:
    """Outputs without data have the shapes, dtypes and strides of those with data."""
    for sample in samples:
        layer = build(sample)
        inputs = tensors_of(sample["inputs"])
        want = call(layer, inputs)
        got = call(layer.to("meta"), [t.to("meta") for t in inputs])
        assert [(t.shape, t.dtype, t.is_meta) for t in got] == [
            (t.shape, t.dtype, True) for t in want
        ]


def test_methods_that_change_the_dtype(samples: list[Sample]) -> None:
    """``float()`` and ``double()`` change every parameter, and the layer still runs."""
    for sample in samples:
        for convert, dtype in (("float", torch.float32), ("double", torch.float64)):
            layer = getattr(build(sample), convert)()
            assert {p.dtype for p in layer.parameters()} == {dtype}
            outputs = call(layer, [t.to(dtype) for t in tensors_of(sample["inputs"])])
            assert {o.dtype for o in outputs} == {dtype}


def test_repr(samples: list[Sample]) -> None:
    """It is printed as stock is."""
    for sample in samples:
        layer = build(sample)
        assert repr(layer) == str(layer) == repr(torch.nn.LSTM(**sample["options"]))


def test_pickle_and_copies(samples: list[Sample]) -> None:
    """A pickled, a saved and a copied layer give bit for bit the same."""
    for sample in samples:
        layer = build(sample)
        buffer = io.BytesIO()
        torch.save(layer, buffer)
        buffer.seek(0)
        twins = (
            torch.load(buffer, weights_only=False),
            pickle.loads(pickle.dumps(layer)),
            copy.deepcopy(layer),
            copy.copy(layer),
        )
        want = call(layer, tensors_of(sample["inputs"]))
        for twin in twins:
            got = call(twin, tensors_of(sample["inputs"]))
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def spread(tensor: Tensor) -> Tensor:
    """The same numbers with gaps between them."""
    wide = tensor.detach().repeat_interleave(2, dim=-1)[..., ::2]
    assert not wide.is_contiguous()
    return wide.requires_grad_(tensor.requires_grad)


def test_tensors_that_are_not_contiguous(samples: list[Sample]) -> None:
    """Inputs and gradients of outputs may have gaps: results and gradients stay the same."""
    for sample in samples:
        layer = build(sample)
        dense = asking(tensors_of(sample["inputs"]))
        outputs = call(layer, dense)
        weights = [torch.randn_like(o) for o in outputs]
        want = [*outputs, *torch.autograd.grad(outputs, [*dense, *layer.parameters()], weights)]
        for inputs, grads in itertools.product(
            (dense, [spread(t) for t in dense]), (weights, [spread(w) for w in weights])
        ):
            outputs = call(layer, inputs)
            leaves = [*inputs, *layer.parameters()]
            got = [*outputs, *torch.autograd.grad(outputs, leaves, grads)]
            assert_equal(got, want, sample["options"])


def test_memory_formats(samples: list[Sample]) -> None:
    """Outputs and gradients are contiguous, also after ``to(memory_format=...)``."""
    for sample in samples:
        layer = build(sample)
        inputs = asking(tensors_of(sample["inputs"]))
        outputs = call(layer, inputs)
        want = [*outputs, *gradients(outputs, [*inputs, *layer.parameters()])]
        for memory_format in (torch.preserve_format, torch.contiguous_format):
            layer.to(memory_format=memory_format)
            outputs = call(layer, inputs)
            got = [*outputs, *gradients(outputs, [*inputs, *layer.parameters()])]
            assert all(t.is_contiguous() for t in got)
            assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_train_and_eval_differ_by_dropout_only() -> None:
    """In evaluation dropout does nothing; in training the same seed drops what stock drops."""
    stock, ours = make_pair(3, 5, num_layers=3, dropout=0.5)
    x = torch.randn(6, 4, 3)
    for training in (False, True):
        results = []
        for layer in (stock.train(training), ours.train(training)):
            torch.manual_seed(7)
            first = flat(layer(x))
            results.append(first)
            assert torch.equal(first[0], flat(layer(x))[0]) != training
        assert_equal(results[1], results[0])
    ours.dropout = 0.0
    assert torch.equal(ours.train()(x)[0], ours.eval()(x)[0])


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradients(samples: list[Sample], check: Any) -> None:
    """Gradients, and gradients of gradients, are what differences say: all, and one by one."""
    for sample in samples:
        # Training and evaluation differ by nothing here.
        if sample["dtype"] != torch.float64 or sample["training"]:
            continue
        layer = build(sample)
        run, leaves = as_function(layer, asking(tensors_of(sample["inputs"])))
        assert check(run, leaves, fast_mode=True)
        if layer.batch_first and layer.bidirectional and layer.bias:  # has them all
            for chosen in range(len(leaves)):
                part = [t.detach().requires_grad_(i == chosen) for i, t in enumerate(leaves)]
                assert check(run, part, fast_mode=True)


def as_function(
    layer: fastrnn.LSTM, inputs: list[Tensor]
) -> tuple[Callable[..., list[Tensor]], list[Tensor]]:
    """The layer as a function of its inputs and parameters, and these."""
    parameters = dict(layer.named_parameters())

    def run(*tensors: Tensor) -> list[Tensor]:
        weights = dict(zip(parameters, tensors[len(inputs) :], strict=True))
        x, *hx = tensors[: len(inputs)]
        arguments = (x, tuple(hx)) if hx else (x,)
        return flat(torch.func.functional_call(layer, weights, arguments))

    return run, [*inputs, *(p.detach().requires_grad_() for p in parameters.values())]


def test_errors(database: dict[str, list[Sample]]) -> None:
    """Wrong calls raise the types and messages that torch expects of stock."""
    wrong_calls = database["wrong_calls"]
    assert len(wrong_calls) >= 10
    for wrong in wrong_calls:

        def attempt(kind: type, wrong: Sample = wrong) -> None:
            kind(*wrong["sizes"], **wrong["options"])(*wrong["inputs"])

        ours, stock = (error_of(lambda k=k: attempt(k)) for k in (fastrnn.LSTM, torch.nn.LSTM))
        assert type(ours) is type(stock)
        assert type(ours).__name__ == wrong["error"]
        assert str(ours) == str(stock)
        with pytest.raises(type(stock), match=wrong["message"]):
            attempt(fastrnn.LSTM)
