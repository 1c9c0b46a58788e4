"""Training on several devices: a step under a `tf.distribute` strategy.

Each replica computes the gradients of its part of the batch. Because Keras divides losses by the number
of replicas, the sums over replicas are the gradients of the whole batch. All replicas then censor the
same sums.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from auxgrad.training.step.directions import Directions

# The aggregation of variables to which all replicas assign the same value.
SAME = tf.VariableAggregation.ONLY_FIRST_REPLICA


def count() -> int:
    """Return the number of replicas."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def summed(directions: Directions) -> Directions:
    """Return the sums of the directions over all replicas."""
    present = [each for each in directions if each is not None]
    if count() == 1 or not present:
        return directions
    sums = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if each is None else next(sums) for each in directions]


def for_optimizer(directions: Directions) -> Directions:
    """Return the gradients that this replica passes to the optimizer.

    The optimizer clips the gradients of each replica and then sums over replicas. The first replica
    passes the whole gradients and the others pass zero, so that the optimizer clips the whole.
    """
    if count() == 1:
        return directions
    number = tf.distribute.get_replica_context().replica_id_in_sync_group
    is_first = tf.equal(number, 0)
    return [
        None if each is None else tf.where(is_first, each, tf.zeros_like(each)) for each in directions
    ]


def assign_sub(variable: keras.Variable, value: tf.Tensor) -> None:
    """Subtract a value from a variable of the network; it must be the same on all replicas."""
    if count() == 1:
        variable.assign_sub(value)
    else:
        assign(variable, variable.value - value)


def assign(variable: keras.Variable, value: tf.Tensor) -> None:
    """Assign a value to a variable of the network; it must be the same on all replicas."""
    if count() == 1:
        variable.assign(value)
        return

    def update(strategy: tf.distribute.Strategy, value: tf.Tensor) -> None:
        strategy.extended.update(variable.value, lambda own, new: own.assign(new), args=(value,))

    tf.distribute.get_replica_context().merge_call(update, args=(value,))
