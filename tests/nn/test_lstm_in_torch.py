"""The layer among torch's modules: dtypes, devices, copies, files, threads, processes, hooks."""

import copy
import io
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

import fastrnn
from fastrnn import LSTMState

from .stock import INPUT_SIZE, assert_same_run, gradients, pair

OPTIONS: dict[str, Any] = {"num_layers": 2, "bidirectional": True}


@pytest.fixture
def layers() -> tuple[nn.LSTM, fastrnn.LSTM]:
    return pair(**OPTIONS)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, INPUT_SIZE)


# dtypes and devices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_as_near_to_float32_as_stock(x: Tensor, dtype: torch.dtype) -> None:
    stock, ours = pair(**OPTIONS)
    exact = gradients(stock(x), list(stock.parameters()))
    want_y = stock(x)[0]
    stock.to(dtype)
    ours.to(dtype)
    run, stock_run = ours(x.to(dtype)), stock(x.to(dtype))
    assert run[0].dtype == run[1].h.dtype == run[1].c.dtype == dtype
    got, theirs = (
        [r[0], *gradients(r, list(layer.parameters()))]
        for r, layer in ((run, ours), (stock_run, stock))
    )
    for a, b, c in zip(got, theirs, [want_y, *exact], strict=True):
        assert a.dtype == dtype
        error, their_error = ((t.float() - c).abs().max() for t in (a, b))
        assert error <= 2 * their_error + torch.finfo(dtype).eps * c.abs().max()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_conversion_of_the_module(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor, dtype: torch.dtype
) -> None:
    stock, ours = layers
    assert all(p.dtype == dtype for p in ours.to(dtype).parameters())
    assert_same_run(ours.float()(x), stock.to(dtype).float()(x))


def test_the_default_dtype_is_that_of_new_layers() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        stock, ours = pair(**OPTIONS)
        x = torch.randn(6, 4, INPUT_SIZE)
        assert ours(x)[0].dtype == ours.initial_state(4).h.dtype == torch.float64
        assert_same_run(ours(x, lengths=[6, 6, 6, 6]), stock(x))
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(params=["context", "default"])
def on_meta(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "context":
        with torch.device("meta"):
            yield
    else:
        torch.set_default_device("meta")
        yield
        torch.set_default_device(None)


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("options", [{}, {**OPTIONS, "batch_first": True, "proj_size": 2}], ids=str)
def test_on_the_meta_device_it_gives_the_shapes(options: dict[str, Any]) -> None:
    stock, ours = nn.LSTM(INPUT_SIZE, 5, **options), fastrnn.LSTM(INPUT_SIZE, 5, **options)
    x = torch.randn(6, 4, INPUT_SIZE)
    (y, state), (want, want_state) = ours(x), stock(x)
    assert y.device.type == "meta"
    for a, b in zip((y, *state), (want, *want_state), strict=True):
        assert (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)
    y.sum().backward()
    assert [p.grad.shape for p in ours.parameters()] == [p.shape for p in ours.parameters()]


def test_a_meta_module_takes_its_weights_later(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor
) -> None:
    stock, _ = layers
    empty = fastrnn.LSTM(INPUT_SIZE, 5, **OPTIONS, device="meta")
    empty.load_state_dict(stock.state_dict(), assign=True)
    assert_same_run(empty(x), stock(x))
    filled = fastrnn.LSTM(INPUT_SIZE, 5, **OPTIONS, device="meta").to_empty(device="cpu")
    filled.load_state_dict(stock.state_dict())
    assert_same_run(filled(x), stock(x))


# copies and files


def saved_and_loaded(value: Any, **options: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, **options)


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        lambda layer: pickle.loads(pickle.dumps(layer)),
        lambda layer: saved_and_loaded(layer, weights_only=False),
    ],
    ids=["deepcopy", "pickle", "save"],
)
def test_copies_compute_the_same_and_are_their_own(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor, copied: Any
) -> None:
    stock, ours = layers
    ours(x)  # whatever a first call may leave must be copied too
    twin = copied(ours)
    assert type(twin) is fastrnn.LSTM
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert_same_run(twin(x), stock(x))


@pytest.mark.parametrize("assign", [False, True])
def test_weights_go_both_ways_through_a_file(x: Tensor, assign: bool) -> None:
    (stock, ours), (other_stock, other_ours) = pair(**OPTIONS), pair(**OPTIONS)
    weights = saved_and_loaded(ours.state_dict(), weights_only=True)
    other_stock.load_state_dict(weights, assign=assign)
    other_ours.load_state_dict(saved_and_loaded(stock.state_dict()), assign=assign)
    for layer in (other_stock, other_ours):
        assert_same_run(layer(x), stock(x))


def test_loading_is_strict_unless_told_otherwise() -> None:
    weights = fastrnn.LSTM(INPUT_SIZE, 5).state_dict()
    del weights["bias_hh_l0"]
    weights["extra"] = torch.zeros(1)
    layer = fastrnn.LSTM(INPUT_SIZE, 5)
    with pytest.raises(RuntimeError, match=r"(?s)Missing.*bias_hh_l0.*Unexpected.*extra"):
        layer.load_state_dict(weights)
    found = layer.load_state_dict(weights, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["bias_hh_l0"], ["extra"])
    with pytest.raises(RuntimeError, match="size mismatch for weight_ih_l0"):
        fastrnn.LSTM(INPUT_SIZE + 1, 5).load_state_dict(fastrnn.LSTM(INPUT_SIZE, 5).state_dict())


def test_parameters_as_one_vector(layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor) -> None:
    stock, ours = layers
    vector = nn.utils.parameters_to_vector(ours.parameters())
    assert torch.equal(vector, nn.utils.parameters_to_vector(stock.parameters()))
    for layer in layers:
        nn.utils.vector_to_parameters(vector.detach() * 2, layer.parameters())
    assert_same_run(ours(x), stock(x))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_optimisers_take_the_same_way(
    layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor, optimizer: type[torch.optim.Optimizer]
) -> None:
    for layer in layers:
        optimize = optimizer(layer.parameters(), lr=1e-2)
        for _ in range(3):
            optimize.zero_grad()
            layer(x)[0].square().sum().backward()
            optimize.step()
    for a, b in zip(layers[1].parameters(), layers[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


# threads and processes


def run_and_train(layer: nn.Module, x: Tensor) -> list[Tensor]:
    run = layer(x)
    return [
        run[0].detach(),
        *(part.detach() for part in run[1]),
        *gradients(run, [*layer.parameters()]),
    ]


def test_threads_run_and_train_one_module_at_once(layers: tuple[nn.LSTM, fastrnn.LSTM]) -> None:
    stock, ours = layers
    batches = [torch.randn(6 + i % 5, 4, INPUT_SIZE) for i in range(24)]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda x: run_and_train(ours, x), batches))
    for x, results in zip(batches, got, strict=True):
        for a, b in zip(results, run_and_train(stock, x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def train_in_child(layer: fastrnn.LSTM, x: Tensor, results: Any) -> None:
    layer(x)[0].sum().backward()
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    results.put([p.grad.numpy() for p in layer.parameters()])


# Forking with threads is what is tested.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_trains_on_shared_weights(method: str, x: Tensor) -> None:
    stock, ours = pair()
    ours.share_memory()
    assert all(p.is_shared() for p in ours.parameters())
    before = ours.weight_hh_l0.detach().clone()
    ours(x)  # the parent's threads run before the fork
    context = mp.get_context(method)
    results = context.Queue()
    child = context.Process(target=train_in_child, args=(ours, x, results), daemon=True)
    child.start()
    got = results.get(timeout=60)
    child.join(30)
    assert child.exitcode == 0
    assert torch.equal(ours.weight_hh_l0, before * 2)
    stock(x)[0].sum().backward()
    for a, b in zip(got, stock.parameters(), strict=True):
        torch.testing.assert_close(torch.from_numpy(a), b.grad, rtol=1e-4, atol=1e-5)


# inference mode


def test_inference_mode(layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor) -> None:
    stock, ours = layers
    with torch.inference_mode():
        run = ours(x)
        assert_same_run(run, stock(x))
        assert all(t.is_inference() for t in (run[0], *run[1]))
        inside = fastrnn.LSTM(INPUT_SIZE, 5)
        assert inside.weight_ih_l0.is_inference()
        inner, _ = inside(x)
    assert torch.equal(inside(x)[0], inner)
    assert not inside(x)[0].requires_grad
    y, _ = ours(x, run[1].clone())  # a clone of an inference tensor is a normal one
    y.sum().backward()
    assert ours.weight_ih_l0.grad is not None


# hooks and wrappers


def test_hooks_see_keywords_and_change_what_goes_in_and_out(x: Tensor) -> None:
    _, ours = pair()
    seen: list[Any] = []

    def before(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        seen.append(sorted(kwargs))
        return args, {**kwargs, "lengths": [1, 2, 3, 4]}

    def after(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        seen.append((args[0] is x, kwargs["lengths"], type(output[1])))
        return output[0] * 2, output[1]

    want, want_state = ours(x, lengths=[1, 2, 3, 4])
    ours.register_forward_pre_hook(before, with_kwargs=True)
    ours.register_forward_hook(after, with_kwargs=True)
    assert_same_run(ours(x, last_state_only=False), (want * 2, want_state))
    assert seen == [["last_state_only"], (True, [1, 2, 3, 4], LSTMState)]


def test_backward_hooks_of_modules(layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor) -> None:
    seen: list[Any] = []
    for layer in layers:
        layer.register_full_backward_hook(lambda _, grads_in, grads_out: seen.append(grads_in))
        layer(x.requires_grad_())[0].square().sum().backward()
    torch.testing.assert_close(seen[1], seen[0])


class Output(nn.Module):
    def forward(self, run: tuple[Tensor, LSTMState]) -> Tensor:
        return run[0]


def test_among_other_modules(layers: tuple[nn.LSTM, fastrnn.LSTM], x: Tensor) -> None:
    embed, head = nn.Linear(INPUT_SIZE, INPUT_SIZE), nn.Linear(10, 2)
    theirs, model = (nn.Sequential(embed, layer, Output(), head) for layer in layers)
    torch.testing.assert_close(model(x), theirs(x))
    assert model.state_dict().keys() == theirs.state_dict().keys()
    assert [type(m) for m in model.modules() if isinstance(m, nn.RNNBase)] == [fastrnn.LSTM]
    calls: list[str] = []
    model.apply(lambda module: calls.append(type(module).__name__))
    assert "LSTM" in calls
    weights = {name: p * 2 for name, p in model.named_parameters()}
    torch.testing.assert_close(
        torch.func.functional_call(model, weights, x),
        torch.func.functional_call(theirs, weights, x),
    )


def test_module_lists_and_averaged_models(x: Tensor) -> None:
    model = nn.ModuleList([fastrnn.LSTM(INPUT_SIZE, 5), fastrnn.LSTM(5, 5)])
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    for layer, averaged in zip(model, average.module, strict=True):
        assert_same_run(averaged(x), layer(x))
        x, _ = layer(x)


class Tagger(nn.Module):
    """A layer among others, as torch.fx takes models apart."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = fastrnn.LSTM(INPUT_SIZE, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y, (h, _) = self.rnn(x)
        return self.head(y) + h.sum()


def test_torch_fx_sees_one_module() -> None:
    model, x = Tagger(), torch.randn(6, 4, INPUT_SIZE)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["rnn", "head"]
    torch.testing.assert_close(traced(x), model(x))
