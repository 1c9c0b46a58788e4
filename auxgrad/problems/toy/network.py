"""Points in the plane as a Keras model, and their two losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

GOAL = (2.0, 0.0)


def build(starts: Sequence[Sequence[float]]) -> keras.Model:
    """Return a model whose outputs point_1, point_2, ... are its variables, with these start values."""
    inputs = keras.Input((1,), name="one")
    points = {}
    for i, start in enumerate(starts):
        name = f"point_{i + 1}"
        initializer = keras.initializers.Constant([[*start]])
        layer = keras.layers.Dense(2, use_bias=False, kernel_initializer=initializer, name=name)
        points[name] = layer(inputs)
    return keras.Model(inputs, points, name="toy")


def distance_from_the_circle(radius: Any, point: Any) -> Any:
    """Return the primary loss of a point, (‖p‖ − radius)²."""
    return keras.ops.square(keras.ops.norm(point, axis=-1) - radius[:, 0])


def distance_from_the_goal(x: Any, y: Any, points: Mapping[str, Any]) -> Any:
    """Return the auxiliary loss of all points, the sum of ‖p − (2, 0)‖²."""
    goal = keras.ops.convert_to_tensor(GOAL)
    return sum(keras.ops.sum(keras.ops.square(point - goal), axis=-1) for point in points.values())


def x(radius: Any, point: Any) -> Any:
    """Return the first coordinate of a point."""
    return point[:, 0]


def y(radius: Any, point: Any) -> Any:
    """Return the second coordinate of a point."""
    return point[:, 1]
