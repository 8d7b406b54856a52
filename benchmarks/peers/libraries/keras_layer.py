"""Keras on TensorFlow: `keras.layers.LSTM` in a compiled function."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..work import Array, Work


class KerasLayer:
    """`tf.function` around the layer; varying lengths are a mask."""

    jit_compile = False

    def __init__(self, work: Work) -> None:
        self.work = work
        self.layer = _layer(work)
        self.x = tf.constant(np.ascontiguousarray(work.x.swapaxes(0, 1)))  # [B, T, I]
        self.grad = None
        if work.grad_y is not None:
            self.grad = tf.constant(np.ascontiguousarray(work.grad_y.swapaxes(0, 1)))
        self.mask = None
        if work.lengths is not None:
            self.mask = tf.constant(np.arange(work.case.seq_len) < work.lengths[:, None])

    def prepare(self) -> None:
        def inference(x: Any, mask: Any, grad: Any) -> Any:
            return (self.layer(x, mask=mask),)

        def training(x: Any, mask: Any, grad: Any) -> Any:
            with tf.GradientTape() as tape:
                y = self.layer(x, mask=mask)
            weights = self.layer.trainable_variables
            values = [weight.value for weight in weights]
            return y, *tape.gradient(y, values, output_gradients=grad)

        chosen = training if self.work.training else inference
        function = tf.function(chosen, jit_compile=self.jit_compile)
        self.call = function.get_concrete_function(self.x, self.mask, self.grad)
        self.run()  # TensorFlow optimises, and XLA compiles, when it is called

    def run(self) -> Any:
        tensors = [t for t in (self.x, self.mask, self.grad) if t is not None]
        return self.call(*tensors)

    def results(self, output: Any) -> dict[str, Array]:
        found = {"y": output[0].numpy().swapaxes(0, 1)}
        if self.work.training:
            grads = [grad.numpy() for grad in output[1:]]
            for i, name in enumerate(("w_ih", "w_hh", "bias")):
                found[f"grad {name}"] = np.stack([grad.T for grad in grads[i::3]])
        return found


class KerasXlaLayer(KerasLayer):
    """The same, compiled by XLA: faster for few sequences and in inference, else often slower."""

    jit_compile = True


def _layer(work: Work) -> Any:
    size, weights = work.case.hidden_size, []
    for arrays in zip(work.w_ih, work.w_hh, work.bias, strict=True):
        weights += [array.T for array in arrays]
    layer = keras.layers.LSTM(size, return_sequences=True)
    if work.case.bidirectional:
        layer = keras.layers.Bidirectional(layer)
    layer.build((work.case.batch_size, work.case.seq_len, work.case.input_size))
    layer.set_weights(weights)
    return layer


def versions() -> dict[str, str]:
    return {"keras": keras.__version__, "tensorflow": tf.__version__}


def set_threads(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
