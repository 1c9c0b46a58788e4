"""Where the auxiliary direction comes from: a true auxiliary loss, or weight decay."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf


class Auxiliary(abc.ABC):
    """Base class: gives the auxiliary direction u of every step.

    `coupled` says how a·u + b·v is applied: with the primary gradient, through the optimizer (True),
    or after the optimizer's step, as AdamW decays weights (False).
    """

    coupled: ClassVar[bool]

    def forward(self, x: Any, y: Any, y_pred: Any) -> Any:
        """What a coupled `direction` differentiates; called once a step, under the gradient tape."""
        return None

    @abc.abstractmethod
    def direction(
        self, forward: Any, tape: tf.GradientTape | None, variables: Sequence[keras.Variable]
    ) -> list[tf.Tensor | None]:
        """u, one for each variable; None where the auxiliary does not reach.

        Decoupled it depends on the variables alone: forward and tape are None then. Called where XLA
        compiles, so that weights read here are not held elsewhere and can be updated in place.
        """

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Auxiliary:
        return cls(**config)


@keras.saving.register_keras_serializable("auxgrad")
class WeightDecay(Auxiliary):
    """Weight decay: u = θ for every trainable variable, biases too, before the optimizer's step.

    Decoupled: θ ← θ − learning_rate·lam·(a·u + b·v), as in AdamW (arXiv 1711.05101), censored.
    """

    coupled = False

    def direction(
        self, forward: Any, tape: tf.GradientTape | None, variables: Sequence[keras.Variable]
    ) -> list[tf.Tensor | None]:
        return [tf.convert_to_tensor(variable.value) for variable in variables]


@keras.saving.register_keras_serializable("auxgrad")
class AuxiliaryLoss(Auxiliary):
    """A true auxiliary loss: u = ∇θ loss(x, y, y_pred).

    Coupled: the optimizer gets ∇θ primary + lam·(a·u + b·v).

    Args:
        loss: called as loss(x, y, y_pred) with the batch as `fit` gets it and all outputs of the
            network; returns a tensor, of which the mean is taken. To save the model, register it with
            `keras.saving.register_keras_serializable`.

    >>> @keras.saving.register_keras_serializable("doctest")
    ... def reconstruction(x, y, y_pred):
    ...     return keras.losses.mean_squared_error(x, y_pred["copy"])
    >>> AuxiliaryLoss(reconstruction).coupled
    True
    """

    coupled = True

    def __init__(self, loss: Callable[[Any, Any, Any], Any]) -> None:
        if not callable(loss):
            raise ValueError(f"loss={loss!r}: must be a function of (x, y, y_pred)")
        self.loss = loss

    def forward(self, x: Any, y: Any, y_pred: Any) -> tf.Tensor:
        return tf.reduce_mean(self.loss(x, y, y_pred))

    def direction(
        self, forward: Any, tape: Any, variables: Sequence[keras.Variable]
    ) -> list[tf.Tensor | None]:
        return list(tape.gradient(forward, [variable.value for variable in variables]))

    def get_config(self) -> dict[str, Any]:
        return {"loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AuxiliaryLoss:
        return cls(keras.saving.deserialize_keras_object(config["loss"]))
