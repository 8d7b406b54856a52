"""Which libraries are compared, and where each of them lives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A library's layer: a class in a file of `libraries`, in an environment of that library."""

    name: str
    label: str
    environment: str
    file: str
    layer: str
    trains: bool = True


OURS, BASELINE = "fastrnn", "torch"

PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "fastrnn", "torch", "torch_layer", "FastrnnLayer"),
        Peer(BASELINE, "torch", "torch", "torch_layer", "TorchLayer"),
        Peer(
            "onnxruntime", "ONNX Runtime", "torch", "onnxruntime_layer", "OnnxRuntimeLayer", False
        ),
        Peer("openvino", "OpenVINO", "torch", "openvino_layer", "OpenVinoLayer", False),
        Peer("keras", "Keras", "keras", "keras_layer", "KerasLayer"),
        Peer("keras-xla", "Keras, XLA", "keras", "keras_layer", "KerasXlaLayer"),
        Peer("paddle", "Paddle", "paddle", "paddle_layer", "PaddleLayer"),
        Peer("jax", "JAX", "jax", "flax_layer", "FlaxLayer"),
    )
}
