"""`accelerate` and `restore`: the same modules with the same parameters, in other classes."""

import copy
import doctest
import importlib
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn.nn.acceleration import AccelerationReport

from .before_and_after import (
    assert_close,
    assert_same_accelerated_and_stock_again,
    outputs_and_gradients,
)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Tagger(nn.Module):
    """LSTMs in every kind of container, one of them under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 5)
        self.stack = nn.ModuleList([nn.LSTM(5, 6), nn.LSTM(6, 6, bidirectional=True)])
        self.heads = nn.ModuleDict({"pos": nn.Sequential(nn.Linear(12, 6), nn.LSTM(6, 4))})
        self.again = self.stack[0]
        self.gru = nn.GRU(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        y = self.embed(tokens)
        for lstm in self.stack:
            y, _ = lstm(y)
        y, _ = self.heads["pos"](y)
        return self.gru(y)[0] + self.again(self.embed(tokens))[0].mean()


NAMES = ("stack.0 = again", "stack.1", "heads.pos.1")


def classes_of(model: nn.Module) -> set[type]:
    return {type(module) for module in model.modules() if isinstance(module, nn.RNNBase)}


# What is replaced


def test_every_lstm_is_found_and_a_shared_one_is_named_once() -> None:
    model = Tagger()
    report = fastrnn.accelerate(model)
    assert report == AccelerationReport(NAMES, {})
    assert classes_of(model) == {fastrnn.LSTM, nn.GRU}
    assert model.again is model.stack[0]
    assert fastrnn.restore(model) == NAMES
    assert classes_of(model) == {nn.LSTM, nn.GRU}


def test_a_model_gives_the_same() -> None:
    assert_same_accelerated_and_stock_again(Tagger(), torch.randint(0, 11, (7, 3)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "batch_first": True},
        {"num_layers": 2, "bidirectional": True},
        {"num_layers": 2, "dtype": torch.float64},
    ],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_model_may_be_the_lstm_itself(options: dict[str, object], packed: bool) -> None:
    lstm = nn.LSTM(5, 6, **options)
    x = torch.randn(4, 4, 5, dtype=lstm.weight_ih_l0.dtype)
    inputs: object = x
    if packed:
        inputs = pack_padded_sequence(x, [2, 4, 1, 3], lstm.batch_first, enforce_sorted=False)
    assert_same_accelerated_and_stock_again(lstm, inputs)
    assert fastrnn.accelerate(lstm).replaced == ("",)
    assert type(lstm) is fastrnn.LSTM


@pytest.mark.parametrize("batch_first", [False, True])
def test_dropout_between_layers_draws_the_same_numbers(batch_first: bool) -> None:
    lstm = nn.LSTM(5, 6, 3, dropout=0.5, batch_first=batch_first)
    x = torch.randn(4, 3, 5)
    torch.manual_seed(7)
    want, _ = lstm(x)
    fastrnn.accelerate(lstm)
    torch.manual_seed(7)
    torch.testing.assert_close(lstm(x)[0], want, rtol=1e-4, atol=1e-5)


def test_a_model_on_meta_runs_where_it_goes_later() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.LSTM(5, 6))
    assert fastrnn.accelerate(model).replaced == ("0",)
    model.to_empty(device="cpu")
    model[0].reset_parameters()
    assert model(torch.randn(4, 3, 5))[0].shape == (4, 3, 6)


# What refers to the modules still does


def test_an_optimiser_made_before_trains_the_same() -> None:
    stock, tokens = Tagger(), torch.randint(0, 11, (7, 3))
    ours = copy.deepcopy(stock)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.1) for m in (stock, ours)]
    before = list(ours.parameters())
    fastrnn.accelerate(ours)
    for model, optimizer in zip((stock, ours), optimizers, strict=True):
        for _ in range(3):
            optimizer.zero_grad()
            model(tokens).square().sum().backward()
            optimizer.step()
    assert all(a is b for a, b in zip(before, ours.parameters(), strict=True))
    assert_close(list(ours.parameters()), list(stock.parameters()))


def test_tied_weights_stay_tied() -> None:
    model = nn.ModuleList([nn.LSTM(5, 6), nn.LSTM(5, 6)])
    model[1].weight_hh_l0 = model[0].weight_hh_l0
    fastrnn.accelerate(model)
    assert model[1].weight_hh_l0 is model[0].weight_hh_l0
    fastrnn.restore(model)
    assert model[1].weight_hh_l0 is model[0].weight_hh_l0


def test_state_dicts_and_training_mode_are_not_touched() -> None:
    model = Tagger()
    model.stack[1].eval()
    before = model.state_dict()
    fastrnn.accelerate(model)
    assert [m.training for m in model.stack] == [True, False]
    assert list(model.state_dict()) == list(before)
    model.load_state_dict({k: torch.zeros_like(v) for k, v in before.items()})
    assert not any(parameter.any() for parameter in model.parameters())


def test_hooks_and_their_handles_stay() -> None:
    lstm, x = nn.LSTM(5, 6), torch.randn(4, 3, 5, requires_grad=True)
    calls: list[str] = []
    handles = [
        lstm.register_forward_pre_hook(lambda *_: calls.append("before")),
        lstm.register_forward_hook(lambda *_: calls.append("after")),
        lstm.register_full_backward_hook(lambda *_: calls.append("backward")),
        lstm.weight_hh_l0.register_hook(lambda _: calls.append("weight")),
    ]
    fastrnn.accelerate(lstm)
    lstm(x)[0].sum().backward()
    assert sorted(calls) == ["after", "backward", "before", "weight"]
    for handle in handles:
        handle.remove()
    lstm(x)[0].sum().backward()
    assert len(calls) == 4


def test_weights_may_be_replaced_for_one_call() -> None:
    model, x = nn.Sequential(nn.LSTM(5, 6)), torch.randn(4, 3, 5)
    others = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    want, _ = torch.func.functional_call(model, others, (x,))
    fastrnn.accelerate(model)
    got, _ = torch.func.functional_call(model, others, (x,))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_copies_and_pickled_modules_can_be_restored() -> None:
    model, tokens = Tagger(), torch.randint(0, 11, (7, 3))
    want = model(tokens)
    fastrnn.accelerate(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert classes_of(twin) == {fastrnn.LSTM, nn.GRU}
        assert fastrnn.restore(twin) == NAMES
        assert torch.equal(twin(tokens), want)
    assert classes_of(model) == {fastrnn.LSTM, nn.GRU}


# Wrappers


def test_data_parallel() -> None:
    model = nn.DataParallel(Tagger())
    assert fastrnn.accelerate(model).replaced[1] == "module.stack.1"
    fastrnn.restore(model)
    assert_same_accelerated_and_stock_again(model, torch.randint(0, 11, (7, 3)))


def test_distributed_data_parallel(tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
    try:
        stock, tokens = Tagger(), torch.randint(0, 11, (7, 3))
        ours = nn.parallel.DistributedDataParallel(copy.deepcopy(stock))
        assert fastrnn.accelerate(ours).replaced[1] == "module.stack.1"
        for model in (stock, ours):
            model(tokens).square().sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert_close([p.grad for p in ours.parameters()], [p.grad for p in stock.parameters()])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
# The compiler itself looks at `grad` of what flows between its graphs, which a GRU breaks.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("in_place", [False, True], ids=["torch.compile", "Module.compile"])
def test_compiled_models_run_what_the_modules_are_now(in_place: bool) -> None:
    torch.compiler.reset()
    model, tokens = Tagger(), torch.randint(0, 11, (7, 3))
    want = outputs_and_gradients(model, tokens)
    if in_place:
        model.compile(backend="aot_eager")
    else:
        model = torch.compile(model, backend="aot_eager")
    assert_close(outputs_and_gradients(model, tokens), want)
    with fastrnn.use_backend("eager"):
        assert_close(outputs_and_gradients(model, tokens), want)
    assert fastrnn.accelerate(model).replaced
    assert_close(outputs_and_gradients(model, tokens), want)
    with torch.no_grad():
        model.stack[0].weight_hh_l0.zero_()
    assert not torch.allclose(outputs_and_gradients(model, tokens)[0], want[0])
    fastrnn.restore(model)
    assert not torch.allclose(outputs_and_gradients(model, tokens)[0], want[0])


# What is left


class OwnLSTM(nn.LSTM):
    pass


def scripted() -> nn.Module:
    return torch.jit.script(nn.LSTM(3, 4))


def quantized() -> nn.Module:
    return torch.ao.nn.quantized.dynamic.LSTM(3, 4)


def quantizable() -> nn.Module:
    return torch.ao.nn.quantizable.LSTMCell(3, 4)


def parametrized_subclass() -> nn.Module:
    lstm = OwnLSTM(3, 4)
    nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")
    return lstm


def with_another_forward() -> nn.Module:
    lstm = nn.LSTM(3, 4)
    lstm.forward = lambda *inputs, of=lstm.forward: of(*inputs)
    return lstm


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.LSTMCell(3, 4), "LSTMCell takes one step a call"),
        (lambda: OwnLSTM(3, 4), "OwnLSTM is a subclass of torch.nn.LSTM"),
        (parametrized_subclass, "ParametrizedOwnLSTM is a subclass of torch.nn.LSTM"),
        (with_another_forward, "its forward was replaced"),
        (scripted, "compiled by TorchScript"),
        (quantized, "quantized.dynamic.modules.rnn.LSTM has quantized weights"),
        (quantizable, "or is made for them"),
        (lambda: nn.LSTM(3, 4, dtype=torch.complex64), "its numbers are complex"),
    ],
)
def test_what_is_left_and_why(make: object, reason: str) -> None:
    model = nn.ModuleDict({"first": make(), "second": nn.LSTM(3, 4)})
    before = type(model["first"])
    report = fastrnn.accelerate(model)
    assert report.replaced == ("second",)
    assert list(report.left) == ["first"]
    assert reason in report.left["first"]
    assert type(model["first"]) is before
    assert fastrnn.restore(model) == ("second",)


def test_a_projection_is_left_where_the_kernels_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastrnn.accelerate(nn.LSTM(3, 4, proj_size=2)).replaced == ("",)
    monkeypatch.setattr("fastrnn.recurrence.dispatch.merges_projection", lambda problem: False)
    report = fastrnn.accelerate(nn.LSTM(3, 4, proj_size=2))
    assert report.left[""].startswith("no fast kernel for it: proj_size > 0")


def test_an_lstm_on_another_device_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastrnn.nn.acceleration._DEVICES", ("cuda",))
    assert fastrnn.accelerate(nn.LSTM(3, 4)).left == {"": "it is on cpu; fastrnn runs on cuda"}


def test_other_layers_are_not_mentioned() -> None:
    model = nn.Sequential(nn.GRU(3, 4), nn.RNN(4, 4), nn.GRUCell(4, 4), fastrnn.LSTM(4, 4))
    assert fastrnn.accelerate(model) == AccelerationReport()


def test_an_lstm_inside_a_subclass_is_replaced() -> None:
    outer = OwnLSTM(3, 4)
    outer.inner = nn.LSTM(3, 4)
    report = fastrnn.accelerate(outer)
    assert report.replaced == ("inner",)
    assert list(report.left) == [""]


# Again, and back


def test_a_second_call_changes_nothing() -> None:
    model = Tagger()
    fastrnn.accelerate(model)
    assert fastrnn.accelerate(model) == AccelerationReport()
    assert fastrnn.restore(model) == NAMES
    assert fastrnn.restore(model) == ()
    assert fastrnn.accelerate(model).replaced == NAMES


def test_restore_leaves_what_was_built_as_ours() -> None:
    model = nn.Sequential(fastrnn.LSTM(3, 4), nn.LSTM(4, 4))
    fastrnn.accelerate(model)
    assert fastrnn.restore(model) == ("1",)
    assert [type(module) for module in model] == [fastrnn.LSTM, nn.LSTM]


def test_a_part_can_be_restored_alone() -> None:
    model = nn.Sequential(nn.LSTM(3, 4), nn.LSTM(4, 4))
    fastrnn.accelerate(model)
    assert fastrnn.restore(model[1]) == ("",)
    assert [type(module) for module in model] == [fastrnn.LSTM, nn.LSTM]


def test_nothing_is_restored_when_something_cannot_be() -> None:
    model = nn.Sequential(nn.LSTM(3, 4), nn.LSTM(4, 4))
    fastrnn.accelerate(model)
    model[1].__class__ = type("Sharded", (fastrnn.LSTM,), {})
    with pytest.raises(TypeError, match=r"1 is a .*Sharded now; it should be the fastrnn\.LSTM"):
        fastrnn.restore(model)
    assert type(model[0]) is fastrnn.LSTM


@pytest.mark.parametrize("function", [fastrnn.accelerate, fastrnn.restore])
def test_what_is_no_module(function: object) -> None:
    with pytest.raises(TypeError, match=r"model is a dict; it should be a torch\.nn\.Module"):
        function({"lstm": nn.LSTM(3, 4)})


def test_the_report_can_be_read() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "cell": nn.LSTMCell(3, 4)})
    assert str(fastrnn.accelerate(model)) == (
        "1 torch.nn.LSTM replaced by fastrnn.LSTM\n"
        "  rnn\n"
        "1 left as they are\n"
        "  cell: LSTMCell takes one step a call, so there are no steps to fuse"
    )
    assert "  (the model itself)" in str(fastrnn.accelerate(nn.LSTM(3, 4)))


def test_examples_in_docstrings_run() -> None:
    module = importlib.import_module("fastrnn.nn.acceleration")
    assert doctest.testmod(module).failed == 0
