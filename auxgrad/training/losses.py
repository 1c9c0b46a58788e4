"""The auxiliary losses of a model: their values, and their means in its logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from auxgrad.training.auxiliaries import Auxiliary, AuxiliaryLoss
from auxgrad.training.step import replicas
from auxgrad.training.streams import Batches


class AuxiliaryLosses:
    """The values of auxiliary losses, and a metric `<name>_loss` for each.

    Args:
        auxiliaries: all auxiliaries of the model by name; those that are no losses are passed over.
    """

    def __init__(self, auxiliaries: Mapping[str, Auxiliary]) -> None:
        self._losses = {
            name: each for name, each in auxiliaries.items() if isinstance(each, AuxiliaryLoss)
        }
        self._with_own_data: frozenset[str] = frozenset()
        self.trackers = {name: keras.metrics.Mean(name=f"{name}_loss") for name in self._losses}

    def check_compiled(self, loss: Any) -> None:
        """Raise ValueError if an auxiliary loss has the name of the loss of an output in logs."""
        if isinstance(loss, Mapping) and len(loss) > 1:
            for name in self._losses:
                if name in loss:
                    raise ValueError(
                        f"auxiliary {name!r}: the compiled loss has an output of this name, whose loss "
                        f"would be {name}_loss too; choose another name"
                    )

    def values(
        self, network: Any, batches: Batches, y_pred: Any, training: bool, without_own: bool
    ) -> dict[str, tf.Tensor]:
        """Return the loss of each auxiliary that has data in this step.

        In a test that is none of those that have no target, or that have had data of their own in
        training.

        Args:
            network: from inputs to all outputs.
            batches: of the step.
            y_pred: the outputs for the primary batch.
            training: whether it is a step of training.
            without_own: leave out the losses with data of their own.
        """
        for name in batches.own:
            if name not in self._losses:
                raise ValueError(
                    f"the data has a stream for {name!r}, which is no auxiliary loss; "
                    f"there are {', '.join(self._losses) or 'none'}"
                )
        self._with_own_data = self._with_own_data | batches.own.keys()
        found = {}
        for name, loss in self._losses.items():
            if name in batches.own:
                if not without_own:
                    x, y, sample_weight = batches.own[name]
                    own_pred = network(x, training=training)
                    found[name] = loss.value(name, x, y, own_pred, sample_weight)
            elif name not in self._with_own_data:
                x, y, sample_weight = batches.primary
                if training or loss.has_target(y):
                    found[name] = loss.value(name, x, y, y_pred, sample_weight)
        return found

    def check_variables(
        self, tape: tf.GradientTape, values: Mapping[str, tf.Tensor], known: Sequence[keras.Variable]
    ) -> None:
        """Raise ValueError if a loss would train variables that the network does not have."""
        own = {id(variable.value) for variable in known}
        foreign = [variable for variable in tape.watched_variables() if id(variable) not in own]
        for name, value in values.items() if foreign else ():
            gradients = tape.gradient(value, foreign)
            for variable, gradient in zip(foreign, gradients, strict=True):
                if gradient is not None:
                    raise ValueError(
                        f"auxiliary loss {name!r} depends on the variable {variable.name}, which the "
                        "network does not have and which would stay as it is: make its layer a part of "
                        "the network, or use keras.ops.stop_gradient on what it gives"
                    )

    def log(self, values: Mapping[str, tf.Tensor], batches: Batches) -> None:
        """Count the values of a step, each with the number of its examples."""
        for name, value in values.items():
            self.trackers[name].update_state(value * replicas.count(), sample_weight=batches.size(name))

    def without_missing(
        self, logs: Mapping[str, Any], values: Mapping[str, tf.Tensor]
    ) -> dict[str, Any]:
        """Return the logs without the losses that have no data: their means would be zero."""
        missing = {self.trackers[name].name for name in self._losses if name not in values}
        return {name: value for name, value in logs.items() if name not in missing}
