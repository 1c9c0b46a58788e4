"""Sources of auxiliary directions: auxiliary losses and weight decay."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from auxgrad.errors import AuxiliaryError, suggestion
from auxgrad.training.saving import function_config, function_from_config
from auxgrad.training.step.means import mean_of

# Name of a Keras loss, keras.losses.Loss, or function (x, y, y_pred).
Loss = Any


class Auxiliary(abc.ABC):
    """Base class of the auxiliary tasks `AuxiliaryLoss` and `WeightDecay`.

    An auxiliary gives a direction u for each trainable variable. A mode censors it to a·u + b·v, and
    lam·w·(a·u + b·v) is applied.

    Args:
        weight: w, the weight of this auxiliary relative to others, finite and >= 0.

    Attributes:
        coupled: Whether a·u + b·v is added to the primary gradient and goes through the optimizer.
            Otherwise it is subtracted from the variables after the step of the optimizer, as AdamW does
            with weight decay.
        default_name: Name of the auxiliary in logs, if the user gives none.

    Raises:
        ValueError: `weight` is out of range.
    """

    coupled: ClassVar[bool]
    default_name: str = "auxiliary"

    def __init__(self, weight: float = 1.0) -> None:
        if isinstance(weight, bool) or not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight={weight!r}: must be a finite number >= 0")
        self.weight = float(weight)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as Keras saves them."""
        return {"weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Auxiliary:
        """Return the auxiliary with the arguments that `get_config` returned."""
        return cls(**config)


@keras.saving.register_keras_serializable("auxgrad")
class WeightDecay(Auxiliary):
    """Decoupled weight decay as the auxiliary task: the direction u is the variable itself.

    For every trainable variable θ, biases included, u = θ before the step of the optimizer. After that
    step

        θ ← θ − learning_rate·lam·w·(a·u + b·v)

    With (a, b) = (1, 0), the mode Multitask, this is the weight decay of AdamW (Loshchilov and Hutter,
    *Decoupled weight decay regularization*, arXiv 1711.05101). The other modes censor it.

    Args:
        weight: w, the weight of the decay relative to other auxiliaries, finite and >= 0.

    Raises:
        ValueError: `weight` is out of range.

    Examples:
        >>> WeightDecay(weight=0.01).weight
        0.01
    """

    coupled = False
    default_name = "decay"

    def direction(self, variables: Sequence[keras.Variable]) -> list[tf.Tensor | None]:
        """Return u, the values of the variables.

        Call it inside the part of a step that XLA compiles: XLA can then update the weights in place.
        """
        return [tf.convert_to_tensor(variable.value) for variable in variables]


@keras.saving.register_keras_serializable("auxgrad")
class AuxiliaryLoss(Auxiliary):
    """An auxiliary loss of the network: the direction u is the gradient of the loss.

    The loss is coupled: the optimizer gets g + lam·w·(a·u + b·v), where g is the gradient of the
    primary loss, the one that `compile` takes.

    Args:
        loss: One of

            * a dict from output names to losses as `keras.Model.compile` takes them, names or objects.
              The targets are the entries of `y` with the same names. The losses are summed.
            * the name of a Keras loss or a `keras.losses.Loss`, for a network with one output.
            * a function (x, y, y_pred) of the inputs and targets of a batch, as `fit` gets them, and all
              outputs of the network. It returns one loss for each example, shape (n,), or several of
              them, such as (n, time steps), or the mean, a single number, which `sample_weight` cannot
              weigh. Losses of pairs of examples, shape (n, n), must be reduced to one of these. 16-bit
              outputs are cast to float32 first. To load a saved model, register the function with
              `keras.saving.register_keras_serializable`, or pass it in `custom_objects`.

            `sample_weight` acts as in Keras: the loss of the batch is the mean of the weighted losses.
        weight: w, the weight of the loss relative to other auxiliaries, finite and >= 0.

    Raises:
        ValueError: `loss` is none of these, or `weight` is out of range.
        AuxiliaryError: In training: an output or a target does not exist, the loss has a value for each
            pair of examples, or it depends on a variable that is not part of the network.

    Examples:
        >>> AuxiliaryLoss({"odd": "binary_crossentropy"}, weight=0.3).default_name
        'odd'
        >>> @keras.saving.register_keras_serializable("doctest")
        ... def copy_loss(x, y, y_pred):
        ...     return keras.losses.mean_squared_error(x, y_pred["copy"])
        >>> AuxiliaryLoss(copy_loss).default_name
        'copy'
    """

    coupled = True

    def __init__(self, loss: Loss | Mapping[str, Loss], weight: float = 1.0) -> None:
        super().__init__(weight)
        self.loss = loss
        self._by_output: dict[str | None, Any] | None = None
        if isinstance(loss, Mapping):
            if not loss:
                raise ValueError("loss={}: must name an output")
            self._by_output = {output: _keras_loss(each) for output, each in loss.items()}
            self.default_name = "_".join(loss)
        elif isinstance(loss, str | keras.losses.Loss):
            self._by_output = {None: _keras_loss(loss)}
        elif callable(loss):
            self._function = loss
            name = getattr(loss, "__name__", type(loss).__name__)
            if name.isidentifier():
                self.default_name = name.removesuffix("_loss") or name
        else:
            raise ValueError(
                f"loss={loss!r}: must be a Keras loss, a dict of them by output, or a function of "
                "(x, y, y_pred)"
            )

    def has_target(self, y: Any) -> bool:
        """Return whether `y` has the targets of the loss; always True for a function."""
        if self._by_output is None or None in self._by_output:
            return True
        return isinstance(y, Mapping) and self._by_output.keys() <= y.keys()

    def value(self, name: str, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        """Return the loss of a batch, a scalar.

        16-bit outputs are cast to float32 first, as Keras does for the compiled loss.

        Args:
            name: Name of the auxiliary, for error messages.
            x: Inputs of the batch.
            y: Targets of the batch.
            y_pred: Outputs of the network.
            sample_weight: Weights of the examples, as `fit` takes them.

        Raises:
            AuxiliaryError: An output, a target or the weights do not match the loss, or a function
                returns a value for each pair of examples.
        """
        y_pred = tf.nest.map_structure(_of_full_precision, y_pred)
        if self._by_output is None:
            if isinstance(sample_weight, dict | list | tuple):
                raise AuxiliaryError(
                    f"auxiliary loss {name!r}: sample_weight has a part for each output, which a "
                    "function of (x, y, y_pred) cannot use; give losses by output"
                )
            return mean_of(name, self._function, (x, y, y_pred), sample_weight)
        losses = []
        for output, loss in self._by_output.items():
            prediction, target, weights = (
                _part(name, what, structure, output)
                for what, structure in (
                    ("output", y_pred),
                    ("target", y),
                    ("sample_weight", sample_weight),
                )
            )
            if isinstance(loss, keras.losses.Loss):
                losses.append(loss(target, prediction, sample_weight=weights))
            else:
                losses.append(mean_of(name, loss, (target, prediction), weights))
        # Unlike tf.add_n, this adds in a fixed order.
        return tf.reduce_sum([tf.cast(loss, tf.float32) for loss in losses]) if losses[1:] else losses[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as Keras saves them."""
        return {**super().get_config(), "loss": function_config("the auxiliary loss", self.loss)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AuxiliaryLoss:
        """Return the auxiliary loss with the arguments that `get_config` returned."""
        loss = config["loss"]
        if isinstance(loss, dict) and "class_name" not in loss:
            parts = {
                output: function_from_config(f"output {output!r}: the auxiliary loss", each)
                for output, each in loss.items()
            }
            return cls(**{**config, "loss": parts})
        return cls(**{**config, "loss": function_from_config("the auxiliary loss", loss)})


def _keras_loss(loss: Any) -> Any:
    if not isinstance(loss, str | keras.losses.Loss) and not callable(loss):
        raise ValueError(f"loss={loss!r}: must be the name of a Keras loss or a keras.losses.Loss")
    return keras.losses.get(loss)


def _of_full_precision(output: Any) -> Any:
    is_half = getattr(output, "dtype", None) in (tf.float16, tf.bfloat16)
    return tf.cast(output, keras.config.floatx()) if is_half else output


def _part(name: str, what: str, structure: Any, output: str | None) -> Any:
    """Return the part of outputs, targets or weights that belongs to an output; None: the only one."""
    if structure is None:
        if what != "sample_weight":
            raise AuxiliaryError(f"auxiliary loss {name!r}: there is no {what}")
        return None
    if isinstance(structure, Mapping):
        if output in structure:
            return structure[output]
        if what == "sample_weight" and output is not None:
            return None
        known = ", ".join(str(key) for key in structure)
        if output is None:
            raise AuxiliaryError(f"auxiliary loss {name!r}: must be a dict by output; there are {known}")
        near = suggestion(output, structure)
        raise AuxiliaryError(
            f"auxiliary loss {name!r}: there is no {what} {output!r}; there are {known}{near}"
        )
    if isinstance(structure, list | tuple):
        raise AuxiliaryError(
            f"auxiliary loss {name!r}: {what}s are a {type(structure).__name__}; give a function of "
            "(x, y, y_pred), or name the outputs by a dict"
        )
    if output is not None and what == "output":
        raise AuxiliaryError(
            f"auxiliary loss {name!r}, output {output!r}: the network has one output without a name"
        )
    return structure


def named(auxiliary: Any) -> dict[str, Auxiliary]:
    """Return the auxiliaries by name, from the argument `auxiliary` of `AuxiliaryModel`.

    Raises:
        AuxiliaryError: It is neither an auxiliary nor a dict of them, or a name cannot name a metric.
    """
    if auxiliary is None:
        auxiliary = WeightDecay()
    if isinstance(auxiliary, Auxiliary):
        return {auxiliary.default_name: auxiliary}
    kinds = "a WeightDecay, an AuxiliaryLoss, or a dict of them by name"
    if not isinstance(auxiliary, Mapping):
        hint = (
            f"; wrap it: AuxiliaryLoss({auxiliary.__name__})" if hasattr(auxiliary, "__name__") else ""
        )
        raise AuxiliaryError(f"auxiliary={auxiliary!r}: must be {kinds}{hint}")
    if not auxiliary:
        raise AuxiliaryError(f"auxiliary={{}}: must be {kinds}; mode SingleTask ignores it")
    for name, each in auxiliary.items():
        if not isinstance(each, Auxiliary):
            raise AuxiliaryError(
                f"auxiliary {name!r} is {each!r}: must be a WeightDecay or an AuxiliaryLoss"
            )
        if not isinstance(name, str) or not name.replace("_", "a").isalnum():
            raise AuxiliaryError(f"auxiliary {name!r}: its name must consist of letters, digits and _")
    return dict(auxiliary)
