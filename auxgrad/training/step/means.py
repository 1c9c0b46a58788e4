"""The mean of the losses that a function returns for the examples of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from auxgrad.errors import AuxiliaryError
from auxgrad.training.step import replicas


def mean_of(
    name: str, function: Callable[..., Any], arguments: tuple[Any, ...], sample_weight: Any
) -> tf.Tensor:
    """Return the mean of the weighted losses of a batch, as Keras' losses do by default.

    Args:
        name: Name of the auxiliary, for error messages.
        function: Function that returns one loss for each example, or several for each, or their mean.
        arguments: Arguments of the function: nested tensors with one example in each row.
        sample_weight: Weights of the examples, or None.

    Raises:
        AuxiliaryError: The function returns a value for each pair of examples, or one number although
            there are weights.
    """
    losses = tf.convert_to_tensor(function(*arguments))
    _check_shape(name, function, arguments, losses.shape)
    if sample_weight is not None:
        if losses.shape.rank == 0:
            raise AuxiliaryError(
                f"auxiliary loss {name!r}: returns one number; for sample_weight to count it must "
                "return a loss for each example"
            )
        weights = tf.cast(sample_weight, losses.dtype)
        while (weights.shape.rank or 1) < (losses.shape.rank or 1):
            weights = weights[..., tf.newaxis]
        losses = losses * weights
    mean, count = tf.reduce_mean(losses), replicas.count()
    return mean if count == 1 else mean / count  # Keras does the same for its losses under a strategy.


def _check_shape(
    name: str, function: Callable[..., Any], arguments: tuple[Any, ...], shape: tf.TensorShape
) -> None:
    """Raise AuxiliaryError if two dimensions of the losses are the batch size.

    Targets of shape (n,) and outputs of shape (n, 1) have a difference of shape (n, n).
    """
    if not shape.rank or not any(size in (None, shape[0]) for size in shape[1:]):
        return
    # The second dimension may be unknown, or equal to the batch size by chance. The shape for another
    # batch size decides. The compiled program contains no trace of this check.
    try:
        other, found = _shape_for_another_batch(function, arguments)
    except Exception:
        return  # The function may work for this batch size only, so its shape is not surely wrong.
    if found.rank is not None and list(found).count(other) > 1:
        shown = ", ".join("n" if size == other else str(size) for size in found)
        raise AuxiliaryError(
            f"auxiliary loss {name!r}: returns shape ({shown}), where n is the batch size; must be a "
            "loss for each example, shape (n,), or their mean; (n,) and (n, 1) broadcast to (n, n)"
        )


def _shape_for_another_batch(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[int, tf.TensorShape]:
    """Return a batch size that no dimension of the arguments has, and the shape of the losses for it."""
    specs = tf.nest.map_structure(tf.type_spec_from_value, arguments)
    flat = [
        each for each in tf.nest.flatten(specs) if isinstance(each, tf.TensorSpec | tf.SparseTensorSpec)
    ]
    batch = flat[0].shape[0]
    other = 7919 + max(size or 0 for each in flat for size in each.shape)

    def resized(spec: Any) -> Any:
        if not any(spec is each for each in flat) or not spec.shape.rank or spec.shape[0] != batch:
            return spec
        return type(spec)([other, *spec.shape[1:]], spec.dtype)

    with tf.init_scope():
        traced = tf.function(
            lambda *args: tf.convert_to_tensor(function(*args)), autograph=False
        ).get_concrete_function(*tf.nest.map_structure(resized, specs))
    return other, traced.output_shapes
