"""A dense layer whose input is a sparse matrix, such as multi-hot vectors."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def sparse_matmul(sparse: tf.SparseTensor, dense: tf.Tensor, densify: bool | None = None) -> tf.Tensor:
    """sparse @ dense, shapes (n, m) and (m, k), differentiable with respect to `dense`.

    Both directions run on all threads and give the same result every time: unlike
    `tf.sparse.sparse_dense_matmul`, which uses one. The transposition is explicit, since a product
    with `transpose_a` is slower than both together.

    Args:
        densify: make `sparse` dense on the device first. None: where there is a GPU.
    """
    if densify is None:
        densify = bool(tf.config.list_logical_devices("GPU"))
    if densify:
        return tf.sparse.to_dense(sparse, validate_indices=False) @ dense
    matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
        indices=sparse.indices, values=sparse.values, dense_shape=sparse.dense_shape
    )

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def product(right: tf.Tensor) -> tuple[tf.Tensor, Any]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            transposed = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=upstream.dtype)
            return tf.raw_ops.SparseMatrixMatMul(a=transposed, b=upstream)

        return tf.raw_ops.SparseMatrixMatMul(a=matrix, b=right), gradient

    result = product(dense)
    result.set_shape((sparse.shape[0], dense.shape[1]))
    return result


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
