import errno
import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastrnn import __version__
from fastrnn.models import BundleError, StripClassifier, bundle, load_bundle, save_bundle

LABELS = ["cat", "dog", "Zürich"]


def make_model(**settings) -> StripClassifier:
    torch.manual_seed(0)
    return StripClassifier(1, 8, 3, **({"hidden_size": 4, "labels": LABELS} | settings))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A saved bundle."""
    folder = tmp_path / "model"
    make_model().save(folder)
    return folder


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def edit_config(path: Path, **changes) -> None:
    """Change top-level keys of config.json; None removes one."""
    config = json.loads((path / "config.json").read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    (path / "config.json").write_text(json.dumps(config))


def edit_architecture(path: Path, **changes) -> None:
    config = json.loads((path / "config.json").read_text())
    edit_config(path, architecture=config["architecture"] | changes)


class TestRoundTrip:
    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"num_layers": 2, "bidirectional": False, "pooling": "last", "dropout": 0.0},
            {"scan": "channels", "width": 12, "pooling": "max"},
            {"dtype": torch.float64},
            {"dtype": torch.float16},
            {"labels": None},
        ],
    )
    def test_gives_an_equal_model(self, tmp_path, settings):
        model = make_model(**settings).eval()
        model.save(tmp_path / "model")
        loaded = StripClassifier.load(tmp_path / "model")
        assert loaded.config == model.config
        assert loaded.labels == model.labels
        assert not loaded.training
        state = model.state_dict()
        assert state.keys() == loaded.state_dict().keys()
        for name, value in loaded.state_dict().items():
            assert value.dtype == state[name].dtype
            assert torch.equal(value, state[name])
        if settings.get("dtype") != torch.float16:
            strips = torch.randint(0, 256, (2, 1, 8, 12), dtype=torch.uint8)
            assert torch.equal(loaded(strips, [12, 5]), model(strips, [12, 5]))

    def test_a_loaded_model_can_be_trained_and_saved_again(self, path):
        model = StripClassifier.load(path).train()
        before = model.head.weight.clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.rand(2, 1, 8, 12)).sum().backward()
        optimizer.step()
        assert not torch.equal(model.head.weight, before)
        model.save(path)
        assert torch.equal(StripClassifier.load(path).head.weight, model.head.weight)

    def test_a_bundle_of_format_1_gives_the_same_model(self, path):
        weights = load_file(path / "model.safetensors")
        old = {name.replace("encoder.recurrence.", ""): value for name, value in weights.items()}
        old["pooling.query"] = old["pooling.query"][0].clone()
        save_file(old, path / "model.safetensors")
        config = json.loads((path / "config.json").read_text())
        known = [
            "in_channels",
            "height",
            "num_classes",
            "hidden_size",
            "pooling",
            "dropout",
            "scan",
            "width",
        ]
        architecture = {name: config["architecture"][name] for name in known}
        sha256 = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        edit_config(path, format_version=1, architecture=architecture, weights_sha256=sha256)
        loaded = load_bundle(path).state_dict()
        for name, value in make_model().state_dict().items():
            assert torch.equal(loaded[name], value)

    def test_map_location_places_the_model(self, path):
        # The meta device is on every machine; torch says that weights copied there are lost.
        with pytest.warns(UserWarning, match="is a no-op"):
            model = StripClassifier.load(path, map_location=torch.device("meta"))
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}

    def test_loading_leaves_the_random_state(self, path):
        state = torch.get_rng_state()
        load_bundle(path)
        assert torch.equal(torch.get_rng_state(), state)

    def test_saving_leaves_the_model(self, tmp_path):
        model = make_model().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.save(tmp_path / "model")
        assert model.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])

    def test_config_says_what_the_model_is_and_takes(self, path):
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        assert config.pop("weights_sha256")
        assert config == {
            "format": "fastrnn-bundle",
            "format_version": 2,
            "fastrnn_version": __version__,
            "model": "StripClassifier",
            "architecture": {
                "in_channels": 1,
                "height": 8,
                "num_classes": 3,
                "pooling": "attention",
                "attention_heads": 1,
                "dropout": 0.1,
                "pixel_mean": 0.5,
                "pixel_std": 0.25,
                "window_size": None,
                "window_stride": None,
                "window_combine": "mean",
                "reader": None,
                "hidden_size": 4,
                "num_layers": 1,
                "bidirectional": True,
                "layer_norm": "none",
                "input_dropout": 0.0,
                "recurrent_dropout": 0.0,
                "zoneout": 0.0,
                "coupled_gates": False,
                "proj_size": 0,
                "recurrent_heads": 1,
                "init": "uniform",
                "forget_bias": None,
                "chrono_range": None,
                "scan": "auto",
                "stack": 1,
                "width": None,
            },
            "labels": LABELS,
            "preprocessing": {"channels": 1, "height": 8, "scaling": "uint8 / 255"},
            "dtype": "float32",
        }

    def test_how_files_become_strips_is_kept_and_shown(self, tmp_path):
        reader = {"kind": "images", "height": 8, "value_range": (0, 9.5), "of": {"any": [None]}}
        model = StripClassifier(1, 8, 2, reader=reader)
        reader["of"]["any"].append(1)
        model.save(tmp_path / "model")
        loaded = load_bundle(tmp_path / "model")
        kept = {"kind": "images", "height": 8, "value_range": [0, 9.5], "of": {"any": [None]}}
        assert loaded.config.reader == loaded.preprocessing["reader"] == kept
        assert hash(loaded.config) == hash(model.config)

    @pytest.mark.parametrize("reader", ["images", {"height": {8}}, {"height": float("nan")}])
    def test_a_reader_that_is_no_json_is_refused(self, reader):
        with pytest.raises(TypeError, match="reader must be"):
            StripClassifier(1, 8, 2, reader=reader)

    def test_load_of_another_class_is_refused(self, path):
        class Other(StripClassifier):
            pass

        with pytest.raises(BundleError, match="holds a StripClassifier, not a Other"):
            Other.load(path)


class TestPlace:
    def test_only_the_bundle_is_left_behind(self, tmp_path, path):
        assert names_in(tmp_path) == ["model"]
        assert names_in(path) == ["config.json", "model.safetensors"]

    def test_parents_are_made(self, tmp_path):
        make_model().save(tmp_path / "a" / "b" / "model")
        load_bundle(tmp_path / "a" / "b" / "model")

    def test_an_empty_folder_is_used(self, tmp_path):
        (tmp_path / "model").mkdir()
        make_model().save(tmp_path / "model")
        load_bundle(tmp_path / "model")

    def test_a_bundle_is_replaced(self, tmp_path, path):
        make_model(hidden_size=7).save(path)
        assert StripClassifier.load(path).config.hidden_size == 7
        assert names_in(tmp_path) == ["model"]

    def test_a_link_to_a_bundle_stays_a_link(self, tmp_path, path):
        link = tmp_path / "latest"
        link.symlink_to(path)
        make_model(hidden_size=7).save(link)
        assert link.is_symlink()
        assert StripClassifier.load(path).config.hidden_size == 7

    def test_the_path_may_be_a_string_and_relative(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        make_model().save("model")
        StripClassifier.load("model")
        StripClassifier.load("./model/")

    def test_permissions_are_those_of_any_new_folder(self, tmp_path, path):
        (tmp_path / "other").mkdir()
        assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


class TestNothingIsLost:
    """What was there before a failed save is there after it, and no scraps are left."""

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "model").write_text("precious")
        with pytest.raises(FileExistsError, match=r"model: a file is in the way"):
            make_model().save(tmp_path / "model")
        assert (tmp_path / "model").read_text() == "precious"
        assert names_in(tmp_path) == ["model"]

    def test_a_folder_of_other_files(self, tmp_path):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "thesis.tex").write_text("precious")
        with pytest.raises(FileExistsError, match=r"holds other files \(thesis\.tex\)"):
            make_model().save(tmp_path / "model")
        assert names_in(tmp_path / "model") == ["thesis.tex"]

    def test_other_files_in_a_bundle(self, path):
        (path / "notes.txt").write_text("precious")
        with pytest.raises(FileExistsError, match=r"holds other files \(notes\.txt\)"):
            make_model().save(path)
        assert (path / "notes.txt").read_text() == "precious"

    @pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"format": "other"}'])
    def test_a_folder_with_a_config_of_something_else(self, tmp_path, text):
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "config.json").write_text(text)
        with pytest.raises(FileExistsError, match="the folder is not a bundle"):
            make_model().save(tmp_path / "model")
        assert (tmp_path / "model" / "config.json").read_text() == text

    def test_a_path_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(OSError, match=r"cannot save the model: .*file.model"):
            make_model().save(tmp_path / "file" / "model")
        assert (tmp_path / "file").read_text() == "precious"

    @pytest.mark.skipif(
        sys.platform == "win32" or os.geteuid() == 0,
        reason="permissions do not stop the superuser",
    )
    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="cannot save the model"):
            make_model().save(tmp_path / "closed" / "model")
        assert names_in(tmp_path / "closed") == []

    @pytest.mark.parametrize(("place", "step"), [(Path, "mkdir"), (os, "fsync"), (Path, "rename")])
    @pytest.mark.parametrize("exists", [False, True])
    def test_a_disk_that_fails_at_any_step(self, tmp_path, path, monkeypatch, place, step, exists):
        target = path if exists else tmp_path / "another"
        before = names_in(tmp_path)

        def fail(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(place, step, fail)
            with pytest.raises(OSError, match=r"cannot save the model: No space left") as raised:
                make_model(hidden_size=7).save(target)
        assert raised.value.errno == errno.ENOSPC
        assert names_in(tmp_path) == before
        assert StripClassifier.load(path).config.hidden_size == 4

    def test_an_interruption_between_the_two_moves(self, tmp_path, path, monkeypatch):
        rename, calls = Path.rename, []

        def interrupted(self, target):
            calls.append(self)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_model(hidden_size=7).save(path)
        assert names_in(tmp_path) == ["model"]
        assert StripClassifier.load(path).config.hidden_size == 4


class TestSaveRefuses:
    def test_a_class_that_could_not_be_loaded(self, tmp_path):
        class Unknown(StripClassifier):
            pass

        with pytest.raises(TypeError, match=r"Unknown is not a registered .*StripClassifier"):
            save_bundle(Unknown(1, 8, 3), tmp_path / "model")
        assert names_in(tmp_path) == []

    def test_weights_of_several_types(self, tmp_path):
        model = make_model()
        model.head.double()
        with pytest.raises(ValueError, match=r"one type, got torch\.float32, torch\.float64"):
            model.save(tmp_path / "model")
        assert names_in(tmp_path) == []


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


def test_every_registered_model_is_a_bundled_model():
    for name, model_class in bundle.MODELS.items():
        assert model_class.__name__ == name
        assert issubclass(model_class, bundle.BundledModel)
