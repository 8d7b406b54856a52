"""Bundles with something wrong are refused, in words that say where and what."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastrnn.models import BundleError, load_bundle

from .bundles import edit_architecture, edit_config, saved


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path)


class TestDamage:
    """A bundle with anything wrong is refused by a message that says where and what."""

    def refused(self, path: Path, message: str) -> None:
        with pytest.raises(BundleError, match=message) as raised:
            load_bundle(path)
        assert str(path) in str(raised.value)

    def test_nothing_there(self, tmp_path):
        self.refused(tmp_path / "model", "it does not exist")

    def test_a_file(self, tmp_path):
        (tmp_path / "model").write_text("")
        self.refused(tmp_path / "model", "it is not a folder")

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_missing_file(self, path, name):
        (path / name).unlink()
        self.refused(path, rf"is not a complete bundle: {name} is missing")

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_folder_in_place_of_a_file(self, path, name):
        (path / name).unlink()
        (path / name).mkdir()
        self.refused(path, rf"cannot read .*{name}: Is a directory")

    @pytest.mark.parametrize(
        "data", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"format": "fastrnn-bundle"']
    )
    def test_a_config_that_is_not_json(self, path, data):
        (path / "config.json").write_bytes(data)
        self.refused(path, "config.json is not valid JSON")

    @pytest.mark.parametrize("text", ["{}", "[1]", "null", '{"format": "x"}', '{"model": "bert"}'])
    def test_a_config_of_something_else(self, path, text):
        (path / "config.json").write_text(text)
        self.refused(path, "does not describe a model saved by fastrnn")

    def test_a_newer_format(self, path):
        edit_config(path, format_version=3, fastrnn_version="9.1", novelty=1)
        self.refused(path, "version 3, this fastrnn reads up to 2; .*fastrnn 9.1: upgrade")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format_version": 0}, "format_version must be from 1 to 2, got 0"),
            ({"format_version": True}, "format_version must be of type int, got True"),
            ({"format_version": "1"}, "format_version must be of type int, got '1'"),
            ({"format_version": None}, "lacks the key 'format_version'"),
            (
                {"model": "os.system"},
                "unknown model 'os.system'; known: CNNLSTMClassifier, FusionClassifier,",
            ),
            ({"model": ["StripClassifier"]}, "model must be of type str"),
            ({"labels": None}, "lacks the key 'labels'"),
            ({"labels": "abc"}, "labels must be of type list, got 'abc'"),
            ({"labels": ["a", "b"]}, "labels must name all 3 classes, got 2"),
            ({"labels": [1, 2, 3]}, "labels must be strings, got 1"),
            ({"architecture": None, "dtype": None}, "lacks the key 'architecture' and 1 more"),
            ({"architecture": []}, r"architecture must be of type dict, got \[\]"),
            ({"dtype": "float8"}, "dtype must be one of float16, .*, got 'float8'"),
            ({"dtype": "float64"}, "has type torch.float32, config.json says torch.float64"),
            ({"preprocessing": {"height": 28}}, "preprocessing .* does not fit the architecture"),
            ({"weights_sha256": "0" * 64}, "does not match its checksum in config.json"),
            ({"surprise": 1}, "has the unknown key 'surprise'"),
        ],
    )
    def test_a_wrong_config(self, path, changes, message):
        edit_config(path, **changes)
        self.refused(path, message)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"surprise": 1}, "architecture has the unknown key 'surprise'"),
            ({"reader": ["images"]}, r"reader must be a dict, got \['images'\]"),
            ({"reader": {"kind": "x"}}, "preprocessing .* does not fit the architecture"),
            ({"device": "cuda"}, "architecture has the unknown key 'device'"),
            ({"hidden_size": "4"}, "hidden_size must be an integer, got '4'"),
            ({"hidden_size": 4.0}, "hidden_size must be an integer, got 4.0"),
            ({"hidden_size": None}, "hidden_size must be an integer, got None"),
            ({"hidden_size": [4]}, r"hidden_size must be an integer, got \[4\]"),
            ({"hidden_size": 10**12}, "hidden_size must be from 1 to 65536, got 10"),
            ({"num_layers": 10**9}, "num_layers must be from 1 to 256, got 10"),
            ({"num_classes": -3}, "num_classes must be from 2 to"),
            ({"bidirectional": "no"}, "bidirectional must be True or False, got 'no'"),
            ({"dropout": float("nan")}, "dropout must be finite, got nan"),
            ({"scan": {"a": 1}}, "scan must be a string, got {'a': 1}"),
            ({"pooling": "__class__"}, "pooling must be one of .*, got '__class__'"),
            ({"height": 9}, "preprocessing .* does not fit the architecture"),
        ],
    )
    def test_a_wrong_architecture(self, path, changes, message):
        edit_architecture(path, **changes)
        self.refused(path, message)

    def test_an_architecture_that_lacks_a_field(self, path):
        edit_config(path, architecture={"in_channels": 1, "height": 8})
        self.refused(path, "architecture lacks the key 'num_classes'")

    def test_sizes_that_the_weights_do_not_have(self, path):
        edit_architecture(path, hidden_size=5)
        self.refused(path, r"weight_ih_l0 has shape \(16, 8\), the architecture .* needs \(20, 8\)")

    def test_absurd_sizes_take_no_memory(self, path):
        # 65536 hidden units would be 137 GB of recurrent weights.
        edit_architecture(path, hidden_size=2**16, num_layers=1)
        self.refused(path, r"the architecture in config.json needs")

    @pytest.mark.parametrize("size", [0, 4, 100, -1])
    def test_truncated_weights(self, path, size):
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
        self.refused(path, "model.safetensors is damaged")

    def test_weights_in_another_format(self, path):
        torch.save({"head.bias": torch.zeros(3)}, path / "model.safetensors")
        self.refused(path, "model.safetensors is damaged")

    def test_one_flipped_bit(self, path):
        weights = path / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        self.refused(path, "does not match its checksum in config.json")

    @pytest.mark.parametrize(
        ("name", "tensor", "message"),
        [
            ("head.bias", None, "lacks the tensor 'head.bias'"),
            ("surprise", torch.zeros(1), "has the unknown tensor 'surprise'"),
            ("head.bias", torch.zeros(4), r"head.bias has shape \(4,\), .* needs \(3,\)"),
            ("head.bias", torch.zeros(3).half(), "head.bias has type torch.float16"),
            ("head.bias", torch.zeros(3).long(), "head.bias has type torch.int64"),
        ],
    )
    def test_wrong_tensors(self, path, name, tensor, message):
        tensors = load_file(path / "model.safetensors")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
        save_file(tensors, path / "model.safetensors")
        self.refused(path, message)


def test_no_code_is_run_from_a_pickle(path, tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save(Payload(), path / "model.safetensors")
    with pytest.raises(BundleError):
        load_bundle(path)
    assert not (tmp_path / "executed").exists()
