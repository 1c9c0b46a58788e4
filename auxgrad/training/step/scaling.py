"""Loss scaling, by which Keras' optimizers keep small float16 gradients from vanishing."""

from __future__ import annotations

import keras
import tensorflow as tf

from auxgrad.training.step.directions import Directions


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor | None:
    """Return the factor by which the optimizer multiplies losses and divides gradients, or None."""
    if skips_steps(optimizer):
        return tf.convert_to_tensor(optimizer.dynamic_scale)
    factor = optimizer.loss_scale_factor
    return None if factor is None else tf.constant(factor, tf.float32)


def skips_steps(optimizer: keras.optimizers.Optimizer) -> bool:
    """Return whether the optimizer skips steps whose gradients are not finite."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def multiplied(directions: Directions, scale: tf.Tensor) -> Directions:
    """Return the directions times the scale."""
    return [None if each is None else each * tf.cast(scale, each.dtype) for each in directions]


def divided(directions: Directions, scale: tf.Tensor) -> Directions:
    """Return the directions divided by the scale."""
    return [None if each is None else each / tf.cast(scale, each.dtype) for each in directions]
