"""A dense layer whose input is a sparse matrix, such as multi-hot vectors."""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf


def sparse_matmul(sparse: tf.SparseTensor, dense: tf.Tensor, densify: bool | None = None) -> tf.Tensor:
    """Return sparse @ dense, shapes (n, m) and (m, k), differentiable with respect to `dense`.

    Both directions run on all threads and give the same result every time, unlike
    `tf.sparse.sparse_dense_matmul`, which uses one thread.

    Args:
        sparse: a sparse matrix of shape (n, m), its indices in order.
        dense: a matrix of shape (m, k) of the same type.
        densify: whether to make `sparse` dense on the device first. None: where there is a GPU.
    """
    if densify is None:
        densify = bool(tf.config.list_logical_devices("GPU"))
    if densify:
        return tf.sparse.to_dense(sparse, validate_indices=False) @ dense
    # Called in a graph, the product is traced once for all graphs; see `_traced`.
    # TensorFlow has no such product of 16-bit numbers.
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
            # Transposed explicitly: a product with `transpose_a` is slower than both together.
            transposed = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=upstream.dtype)
            return tf.raw_ops.SparseMatrixMatMul(a=transposed, b=upstream)

        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=right), gradient

    return product(dense)


@functools.cache
def _traced(dtype: tf.DType) -> Any:
    """Return the product as a graph of its own.

    TensorFlow keeps every custom gradient that it traces until the process ends, and all tensors that it
    refers to. Traced as a part of a model, it would keep the model; traced here it refers to arguments.
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
    """`keras.layers.Dense`, fast on a `tf.SparseTensor` of shape (batch, features); else the same.

    Made for multi-hot input, where few of many columns are set.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not isinstance(inputs, tf.SparseTensor):
            return super().call(inputs, training=training)
        outputs = sparse_matmul(tf.cast(inputs, self.compute_dtype), tf.convert_to_tensor(self.kernel))
        if self.bias is not None:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)
