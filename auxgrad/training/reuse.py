"""Train a compiled model again instead of a new one if the result is the same, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.training.auxiliaries import AuxiliaryLoss, named
from auxgrad.training.model import AuxiliaryModel
from auxgrad.training.step.accumulation import accumulation_steps

# Modules whose classes keep their whole state in variables and in the result of `get_config`.
KNOWN = ("keras.", "auxgrad.training.")
MOST_MODELS = 8  # Each model has its own moving average.
# Classes in these modules that hold a function, or state that `adapt` computes from data.
OPAQUE = {"Lambda", "function", "__lambda__", "Normalization", "Discretization", "StringLookup"}
OPAQUE |= {"IntegerLookup", "TextVectorization", "FeatureSpace"}


class Compiled:
    """Compiled models that share one network, one model for each way of censoring.

    TensorFlow keeps compiled programs, and the variables that they use, until the process ends. New
    models for each run would fill the memory. Instead, the network is reset to the initial state of the
    next run.

    Args:
        network: As for `AuxiliaryModel`.
        auxiliary: As for `AuxiliaryModel`.
        optimizer: As for `AuxiliaryModel.compile`.
        loss: As for `AuxiliaryModel.compile`.
        metrics: As for `AuxiliaryModel.compile`.
        start: As for `AuxiliaryModel`.
        structure: Their `signature`; None if the models cannot be used again.
        steps_per_execution: As for `AuxiliaryModel.compile`.
    """

    def __init__(
        self,
        network: keras.Model,
        auxiliary: Any,
        optimizer: keras.optimizers.Optimizer,
        loss: Any,
        metrics: Any,
        start: str,
        structure: str | None,
        steps_per_execution: int,
    ) -> None:
        self._network, self._auxiliary, self._optimizer, self._loss = network, auxiliary, optimizer, loss
        self._begin = start
        self._metrics, self._structure, self._at_once = metrics, structure, steps_per_execution
        self._models: dict[tuple[Mode, bool, bool], AuxiliaryModel] = {}
        optimizer.build(network.trainable_variables)
        # Most of the state is zero at first and need not be kept.
        self._start = [value if value.any() else None for value in map(np.asarray, optimizer.variables)]

    def fits(self, structure: str | None) -> bool:
        """Return whether training these models gives the result of a network with this signature."""
        return structure is not None and structure == self._structure

    def model(
        self,
        network: keras.Model,
        mode: Mode,
        lam: float,
        alpha: float,
        overall: bool,
        seed: int,
    ) -> AuxiliaryModel:
        """Return the model for these arguments at its first step, with the state of `network`."""
        way = mode, overall, alpha < 1
        model = self._models.pop(way, None)
        if model is None:
            model = AuxiliaryModel(
                self._network, self._auxiliary, mode, lam, alpha, overall, self._begin
            )
            model.compile(
                self._optimizer,
                self._loss,
                metrics=self._metrics,
                steps_per_execution=self._at_once,
            )
        self._models[way] = model
        if len(self._models) > MOST_MODELS:
            del self._models[next(iter(self._models))]
        model.lam, model.alpha, model.seed = lam, alpha, seed
        if network is not self._network:  # Otherwise the network has not been trained yet.
            model.restart(network, self._optimizer_start())
        return model

    def _optimizer_start(self) -> list[Any]:
        return [
            tf.zeros(variable.shape, variable.dtype) if value is None else value
            for variable, value in zip(self._optimizer.variables, self._start, strict=True)
        ]


def signature(
    network: keras.Model,
    auxiliary: Any,
    optimizer: keras.optimizers.Optimizer,
    loss: Any,
    metrics: Any,
    *rest: object,
) -> str | None:
    """Return a text that two models share only if they differ at most in the values of variables.

    Args:
        network: As for `AuxiliaryModel`.
        auxiliary: As for `AuxiliaryModel`.
        optimizer: As for `AuxiliaryModel.compile`.
        loss: As for `AuxiliaryModel.compile`.
        metrics: As for `AuxiliaryModel.compile`.
        *rest: Other values that the compiled model depends on, serialisable as JSON.

    Returns:
        The text, or None if it cannot be made: the network, auxiliary, optimizer, loss or a metric
        contains code that belongs neither to Keras nor to this package.
    """
    if accumulation_steps(optimizer) > 1:
        return None  # Each model adds its own variables to the optimizer.
    try:
        tasks = named(auxiliary)
        own = (network, tasks, optimizer, metrics)
        parts = [keras.saving.serialize_keras_object(part) for part in own]
        if not all(_is_known(part) for part in parts):
            return None
        parts[2]["config"].pop("name", None)  # It differs for each optimizer and has no effect.
        known = [_without_seeds(part) for part in parts]
        flags = [(variable.path, variable.trainable) for variable in network.variables]
        losses = [each.loss for each in tasks.values() if isinstance(each, AuxiliaryLoss)]
        states = [_loss_state(each) for each in (loss, *losses)]
        return json.dumps([*known, flags, states, *rest], sort_keys=True)
    except (TypeError, ValueError, NotImplementedError):
        return None


def _is_known(part: Any) -> bool:
    if isinstance(part, dict):
        name = str(part.get("class_name", "__dict__"))
        is_value = name.startswith("__")  # Keras' notation for tensors, tuples and similar values.
        if name in OPAQUE or not (is_value or f"{part.get('module')}.".startswith(KNOWN)):
            return False
        return all(_is_known(value) for value in part.values())
    return all(_is_known(value) for value in part) if isinstance(part, list | tuple) else True


def _without_seeds(part: Any) -> Any:
    """Return the part without entries that only affect initial values of variables."""
    if isinstance(part, dict):
        return {
            key: _without_seeds(value)
            for key, value in part.items()
            if key != "seed" and not key.endswith("initializer")
        }
    return [_without_seeds(value) for value in part] if isinstance(part, list | tuple) else part


def _loss_state(loss: Any) -> Any:
    """Return everything that a loss, or a nest of losses, depends on.

    `get_config` is not enough: for some losses it omits a number.

    Raises:
        TypeError: A loss does not belong to Keras.
    """
    if isinstance(loss, dict):
        return {key: _loss_state(value) for key, value in loss.items()}
    if isinstance(loss, list | tuple):
        return [_loss_state(value) for value in loss]
    if loss is None or isinstance(loss, str | int | float):
        return loss
    known = (
        loss if isinstance(loss, type) or (callable(loss) and hasattr(loss, "__name__")) else type(loss)
    )
    if not known.__module__.startswith("keras."):
        raise TypeError(f"{loss!r}: not of Keras")
    name = f"{known.__module__}.{known.__qualname__}"
    return name if known is loss else [name, _loss_state(vars(loss))]
