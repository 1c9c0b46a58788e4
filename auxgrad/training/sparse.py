"""A dense layer for sparse input, such as multi-hot vectors."""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf


def sparse_matmul(sparse: tf.SparseTensor, dense: tf.Tensor, densify: bool | None = None) -> tf.Tensor:
    """Return sparse @ dense, differentiable with respect to `dense`.

    The product and its gradient run on all threads, unlike `tf.sparse.sparse_dense_matmul`, which uses
    one thread, and are deterministic.

    Args:
        sparse: Sparse matrix of shape (n, m), with sorted indices.
        dense: Matrix of shape (m, k) and the same type.
        densify: Whether to make `sparse` dense on the device first; None means only if there is a GPU.

    Returns:
        A matrix of shape (n, k).
    """
    if densify is None:
        densify = bool(tf.config.list_logical_devices("GPU"))
    if densify:
        return tf.sparse.to_dense(sparse, validate_indices=False) @ dense
    # In a graph, call one product that is traced for all graphs; see `_traced`.
    # TensorFlow has no sparse product of 16-bit numbers.
    dtype = dense.dtype if dense.dtype.size >= 4 else tf.float32
    product = _product if tf.executing_eagerly() else _traced(dtype)
    values, right = tf.cast(sparse.values, dtype), tf.cast(dense, dtype)
    result = tf.cast(product(sparse.indices, values, sparse.dense_shape, right), dense.dtype)
    result.set_shape((sparse.shape[0], dense.shape[1]))
    return result


def _product(indices: tf.Tensor, values: tf.Tensor, shape: tf.Tensor, dense: tf.Tensor) -> tf.Tensor:
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(indices=indices, values=values, dense_shape=shape)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def product(right: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # Transpose explicitly: a product with `transpose_a` is slower than the two operations.
            transposed = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=upstream.dtype)
            return tf.raw_ops.SparseMatrixMatMul(a=transposed, b=upstream)

        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=right), gradient

    return product(dense)


@functools.cache
def _traced(dtype: tf.DType) -> Any:
    """Return the product as a separate graph.

    TensorFlow keeps every traced custom gradient, and all tensors that it refers to, until the process
    ends. Traced inside a model, the gradient would keep the model alive; here it refers to arguments.
    """
    signature = [
        tf.TensorSpec((None, 2), tf.int64),
        tf.TensorSpec((None,), dtype),
        tf.TensorSpec((2,), tf.int64),
        tf.TensorSpec((None, None), dtype),
    ]
    return tf.function(_product, input_signature=signature, autograph=False)


@keras.saving.register_keras_serializable("auxgrad")
class SparseDense(keras.layers.Dense):
    """A dense layer that is fast on sparse input, such as multi-hot vectors.

    It computes activation(inputs @ kernel + bias), as `keras.layers.Dense` does, and takes the same
    arguments. Use it as the first layer of a network with `keras.Input(shape, sparse=True)`. Dense input
    is treated exactly as by `keras.layers.Dense`. A sparse input is a `tf.SparseTensor` of shape
    (batch, features) with sorted indices. It stays sparse on the CPU and becomes dense on a GPU.

    Examples:
        >>> inputs = tf.sparse.from_dense([[0.0, 1.0, 1.0]])
        >>> SparseDense(1, kernel_initializer="ones")(inputs).numpy().tolist()
        [[2.0]]
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the outputs of the layer, shape (batch, units)."""
        if not isinstance(inputs, tf.SparseTensor):
            return super().call(inputs, training=training)
        outputs = sparse_matmul(tf.cast(inputs, self.compute_dtype), tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)
