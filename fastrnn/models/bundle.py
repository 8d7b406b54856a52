"""Bundles: a model saved as a folder that any later version can check and load.

The folder holds ``model.safetensors`` (the weights) and ``config.json`` (everything needed to
build the model and to prepare its input). Neither can carry code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from fastrnn._version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["MODELS", "BundleError", "BundledModel", "load_bundle", "register_model", "save_bundle"]

FORMAT = "fastrnn-bundle"
FORMAT_VERSION = 2  # 2: a classifier's LSTM is in its encoder
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_KEYS = {
    "format": str,
    "format_version": int,
    "fastrnn_version": str,
    "model": str,
    "architecture": dict,
    "labels": list,
    "preprocessing": dict,
    "dtype": str,
    "weights_sha256": str,
}
_DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}


class BundleError(ValueError):
    """A bundle is missing, damaged, foreign, or too new; the message names it and says why."""


class BundledModel(nn.Module):
    """Base of the models that can be saved as bundles.

    A subclass sets `config_class`, gives each instance `config` and `labels`, and is registered
    with `register_model`. Everything that it needs must be in its config, its labels and its
    `state_dict`.
    """

    config_class: ClassVar[type[DataclassInstance]]
    config: DataclassInstance
    labels: tuple[str, ...]

    @classmethod
    def from_config(
        cls,
        config: Any,
        *,
        labels: list[str] | tuple[str, ...] | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Build a model with new weights from its config."""
        raise NotImplementedError

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What the input must look like, in JSON types."""
        raise NotImplementedError

    @classmethod
    def upgrade_weights(cls, weights: dict[str, Tensor], format_version: int) -> dict[str, Tensor]:
        """Give weights of an older format the names and shapes of today's."""
        return weights

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the model as a bundle; see `save_bundle`."""
        save_bundle(self, path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], map_location: torch.device | str | None = None
    ) -> Self:
        """Load a model of this class from a bundle; see `load_bundle`."""
        model = load_bundle(path, map_location)
        if not isinstance(model, cls):
            raise BundleError(f"{path} holds a {type(model).__name__}, not a {cls.__name__}")
        return model


MODELS: dict[str, type[BundledModel]] = {}

_Model = TypeVar("_Model", bound=type[BundledModel])


def register_model(model_class: _Model) -> _Model:
    """Let bundles hold models of a class, under the class's name; a decorator."""
    MODELS[model_class.__name__] = model_class
    return model_class


def save_bundle(model: BundledModel, path: str | os.PathLike[str]) -> None:
    """Save a model as a bundle.

    The bundle is written beside its place and then moved there: an error or Ctrl-C leaves either
    the old or the new one. (A kill between the two renames leaves the old one beside its place,
    as ``.name.<id>.old``.) Missing parent folders are made.

    Parameters
    ----------
    model : BundledModel
        A registered model, all of whose floating-point weights have one type.
    path : path-like
        The folder to make. A bundle or an empty folder there is replaced.

    Raises
    ------
    TypeError
        If the model's class is not registered.
    FileExistsError
        If something else is there: a file, or a folder that holds other files.
    OSError
        If the folder cannot be written. What was there is kept.

    Examples
    --------
    >>> import tempfile
    >>> from fastrnn.models import StripClassifier, load_bundle, save_bundle
    >>> model = StripClassifier(in_channels=1, height=8, num_classes=2, labels=["cat", "dog"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_bundle(model, f"{folder}/pets")
    ...     load_bundle(f"{folder}/pets").labels
    ('cat', 'dog')
    """
    from safetensors.torch import save as to_safetensors

    name = type(model).__name__
    if MODELS.get(name) is not type(model):
        raise TypeError(
            f"{name} is not a registered model class; registered: {', '.join(sorted(MODELS))}"
        )
    target = Path(path).resolve()
    check_replaceable(target)

    state = {
        key: value.detach().to("cpu", copy=True).contiguous()
        for key, value in model.state_dict().items()
    }
    weights = to_safetensors(state)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fastrnn_version": __version__,
        "model": name,
        "architecture": dataclasses.asdict(model.config),
        "labels": list(model.labels),
        "preprocessing": model.preprocessing,
        "dtype": _floating_dtype(state),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"

    fresh = _sibling(target, "new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh.mkdir()
        _write(fresh / WEIGHTS_FILE, weights)
        _write(fresh / CONFIG_FILE, text.encode())
        _move_into_place(fresh, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot save the model: {reason}", str(target)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_bundle(
    path: str | os.PathLike[str], map_location: torch.device | str | None = None
) -> BundledModel:
    """Load the model of a bundle, ready for use (in evaluation mode).

    Everything is checked before memory is taken for the model, and no code from the bundle is
    run.

    Parameters
    ----------
    path : path-like
        The bundle's folder.
    map_location : torch.device or str, optional
        Where to put the model. Default: CPU.

    Returns
    -------
    BundledModel
        A model of the class that was saved.

    Raises
    ------
    BundleError
        If the bundle is missing, damaged, of an unknown class, or from a newer version.

    Examples
    --------
    See `save_bundle`.
    """
    folder = Path(path)
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise BundleError(f"cannot load a model from {folder}: it {problem}")
    manifest = _read_manifest(folder / CONFIG_FILE)
    model = _build_empty(manifest, folder / CONFIG_FILE)
    state = _read_weights(folder / WEIGHTS_FILE, model, manifest)
    model.to_empty(device=map_location or "cpu")
    model.load_state_dict(state)
    return model.eval()


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read config.json and check its outer layer."""
    data = _read(path)
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path} does not describe a model saved by fastrnn")
    version = manifest.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise BundleError(
            f"{path} has format version {version}, this fastrnn reads up to {FORMAT_VERSION}; "
            f"it was saved by fastrnn {manifest.get('fastrnn_version')}: upgrade to load it"
        )
    _check_keys(manifest, set(_KEYS), set(_KEYS), str(path))
    for key, kind in _KEYS.items():
        if type(manifest[key]) is not kind:
            raise BundleError(
                f"{path}: {key} must be of type {kind.__name__}, got {manifest[key]!r}"
            )
    if manifest["format_version"] < 1:
        raise BundleError(
            f"{path}: format_version must be from 1 to {FORMAT_VERSION}, got {version}"
        )
    return manifest


def _build_empty(manifest: dict[str, Any], path: Path) -> BundledModel:
    """Build the model on the meta device, where it takes no memory however large it claims to be.

    So the sizes are compared with the weights at hand before anything is allocated.
    """
    model_class = MODELS.get(manifest["model"])
    if model_class is None:
        raise BundleError(
            f"{path}: unknown model {manifest['model']!r}; known: {', '.join(sorted(MODELS))}"
        )
    if manifest["dtype"] not in _DTYPES:
        raise BundleError(
            f"{path}: dtype must be one of {', '.join(_DTYPES)}, got {manifest['dtype']!r}"
        )
    architecture = manifest["architecture"]
    fields = dataclasses.fields(model_class.config_class)
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    _check_keys(architecture, {field.name for field in fields}, required, f"{path}: architecture")
    try:
        config = model_class.config_class(**architecture)
        model = model_class.from_config(config, labels=manifest["labels"], device="meta")
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: {error}") from error
    if manifest["preprocessing"] != model.preprocessing:
        raise BundleError(
            f"{path}: preprocessing {manifest['preprocessing']} does not fit the architecture, "
            f"which needs {model.preprocessing}"
        )
    return model.to(_DTYPES[manifest["dtype"]])


def _read_weights(path: Path, model: BundledModel, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """Read the tensors and compare them with the model's."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_safetensors

    data = _read(path)
    try:
        state = from_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    state = model.upgrade_weights(state, manifest["format_version"])
    expected = model.state_dict()
    _check_keys(state, set(expected), set(expected), str(path), what="tensor")
    for name, wanted in expected.items():
        tensor = state[name]
        if tensor.shape != wanted.shape:
            raise BundleError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, "
                f"the architecture in {CONFIG_FILE} needs {tuple(wanted.shape)}"
            )
        if tensor.dtype != wanted.dtype:
            raise BundleError(
                f"{path}: {name} has type {tensor.dtype}, {CONFIG_FILE} says {wanted.dtype}"
            )
    if hashlib.sha256(data).hexdigest() != manifest["weights_sha256"]:
        raise BundleError(f"{path} is damaged: it does not match its checksum in {CONFIG_FILE}")
    return state


def _check_keys(
    found: dict[str, Any], allowed: set[str], required: set[str], where: str, what: str = "key"
) -> None:
    for problem, names in (
        ("lacks the", sorted(required - set(found))),
        ("has the unknown", sorted(set(found) - allowed)),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BundleError(f"{where} {problem} {what} {names[0]!r}{more}")


def _floating_dtype(state: dict[str, Tensor]) -> str:
    found = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    names = [name for name, dtype in _DTYPES.items() if dtype in found]
    if len(found) != 1 or len(names) != 1:
        kinds = ", ".join(sorted(map(str, found)))
        raise ValueError(f"a model to save needs weights of one type, got {kinds or 'none'}")
    return names[0]


def check_replaceable(target: Path) -> None:
    """Raise FileExistsError unless `target` is a bundle, an empty folder or not there."""
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"cannot save the model as {target}: a file is in the way")
    names = {entry.name for entry in target.iterdir()}
    others = sorted(names - {CONFIG_FILE, WEIGHTS_FILE})
    if others:
        raise FileExistsError(
            f"cannot save the model as {target}: the folder holds other files ({others[0]})"
        )
    if names and not _is_ours(target / CONFIG_FILE):
        raise FileExistsError(f"cannot save the model as {target}: the folder is not a bundle")


def _is_ours(config: Path) -> bool:
    try:
        manifest = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _move_into_place(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    old = _sibling(target, "old")
    target.rename(old)
    try:
        fresh.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sibling(target: Path, suffix: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{suffix}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent} is not a complete bundle: {path.name} is missing"
        ) from error
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
