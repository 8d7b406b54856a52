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

from .bundles import LABELS, edit_config, make_model, names_in, saved


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path)


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


def test_every_registered_model_is_a_bundled_model():
    for name, model_class in bundle.MODELS.items():
        assert model_class.__name__ == name
        assert issubclass(model_class, bundle.BundledModel)
