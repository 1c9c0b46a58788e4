"""Auxiliary losses of a model: their values, and their means in the logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from auxgrad.errors import AuxiliaryError
from auxgrad.training.auxiliaries import Auxiliary, AuxiliaryLoss
from auxgrad.training.step import replicas
from auxgrad.training.streams import Batches


class AuxiliaryLosses:
    """Compute the auxiliary losses, and keep a metric `<name>_loss` for each.

    Args:
        auxiliaries: All auxiliaries of the model by name; only `AuxiliaryLoss` objects are used.
    """

    def __init__(self, auxiliaries: Mapping[str, Auxiliary]) -> None:
        self._losses = {
            name: each for name, each in auxiliaries.items() if isinstance(each, AuxiliaryLoss)
        }
        self._with_own_data: frozenset[str] = frozenset()
        self.trackers = {name: keras.metrics.Mean(name=f"{name}_loss") for name in self._losses}

    def check_compiled(self, loss: Any) -> None:
        """Raise AuxiliaryError if an auxiliary loss and the loss of an output have one name in logs."""
        if isinstance(loss, Mapping) and len(loss) > 1:
            for name in self._losses:
                if name in loss:
                    raise AuxiliaryError(
                        f"auxiliary {name!r}: the compiled loss has an output of this name, whose loss "
                        f"would be {name}_loss too; choose another name"
                    )

    def values(
        self, network: Any, batches: Batches, y_pred: Any, training: bool, without_own: bool
    ) -> dict[str, tf.Tensor]:
        """Return the loss of each auxiliary that has data in this step.

        In a test step, omit losses without a target and losses with their own data in training.

        Args:
            network: Function from inputs to all outputs.
            batches: Batches of the step.
            y_pred: Outputs for the primary batch.
            training: Whether this is a training step.
            without_own: Whether to omit losses with their own data.

        Raises:
            AuxiliaryError: The data has a stream for a name that is not an auxiliary loss.
        """
        for name in batches.own:
            if name not in self._losses:
                raise AuxiliaryError(
                    f"the data has a stream for {name!r}, which is not an auxiliary loss; "
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
        """Raise AuxiliaryError if a loss depends on variables that are not part of the network."""
        own = {id(variable.value) for variable in known}
        foreign = [variable for variable in tape.watched_variables() if id(variable) not in own]
        for name, value in values.items() if foreign else ():
            gradients = tape.gradient(value, foreign)
            for variable, gradient in zip(foreign, gradients, strict=True):
                if gradient is not None:
                    raise AuxiliaryError(
                        f"auxiliary loss {name!r} depends on the variable {variable.name}, which is not "
                        "part of the network and would not be trained: make its layer part of the "
                        "network, or apply keras.ops.stop_gradient to its output"
                    )

    def log(self, values: Mapping[str, tf.Tensor], batches: Batches) -> None:
        """Update the metrics with the values of a step, each weighted by its number of examples."""
        for name, value in values.items():
            self.trackers[name].update_state(value * replicas.count(), sample_weight=batches.size(name))

    def without_missing(
        self, logs: Mapping[str, Any], values: Mapping[str, tf.Tensor]
    ) -> dict[str, Any]:
        """Return the logs without the losses that have no data; their means would be zero."""
        missing = {self.trackers[name].name for name in self._losses if name not in values}
        return {name: value for name, value in logs.items() if name not in missing}
