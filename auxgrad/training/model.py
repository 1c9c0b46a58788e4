"""A Keras model whose training step censors the auxiliary direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from auxgrad.censoring import Mode, Rule, censor_with, per_variable_products
from auxgrad.training.auxiliaries import Auxiliary, WeightDecay
from auxgrad.training.counters import BatchLosses, CensoringStatistics
from auxgrad.training.directions import Directions, add, dense
from auxgrad.training.modes import mode_config, mode_from_config
from auxgrad.training.reference import MovingAverage


@keras.saving.register_keras_serializable("auxgrad")
class AuxiliaryModel(keras.Model):
    r"""Trains a network on its primary loss with a censored auxiliary direction.

    At every step, with g the gradient of the compiled loss and u the auxiliary direction:

        v_t = (1 − alpha)·v_{t−1} + alpha·g_t            (v = g when alpha = 1)
        coupled:    the optimizer gets g + lam·(a·u + b·v)
        decoupled:  the optimizer steps with g, then θ ← θ − learning_rate·lam·(a·u + b·v)

    (a, b) depends on the mode, see `auxgrad.censoring`; whether it is coupled is up to `auxiliary`.
    `compile`, `fit`, `train_on_batch`, `evaluate`, `predict` and `save` are those of Keras.

    Args:
        network: any Keras model; `compile(loss=...)` is its primary loss.
        auxiliary: `WeightDecay()` (default) or `AuxiliaryLoss(...)`.
        mode: a name in `auxgrad.censoring.MODES`, a `Mode` or a rule.
        lam: weight of the auxiliary direction, finite and >= 0; can be assigned during training.
        alpha: share of the newest primary gradient in the reference, in (0, 1]; can be assigned too.
        overall: one (a, b) for all variables instead of one each.
        start: "zero" begins the moving average at v_0 = 0, "first" at v_1 = g_1.

    Raises:
        ValueError: an argument out of range; at `compile`, an optimizer that scales the loss or
            accumulates gradients, since either would censor against something else than g.

    >>> network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model = AuxiliaryModel(network, mode="Orthogonal", lam=10.0)
    >>> model.compile(optimizer="adam", loss="mse")
    >>> history = model.fit(tf.ones((8, 4)), tf.ones((8, 1)), epochs=2, verbose=0)
    >>> sorted(history.history)
    ['loss']
    """

    def __init__(
        self,
        network: keras.Model,
        auxiliary: Auxiliary | None = None,
        mode: str | Mode | Rule = "Projection",
        lam: float = 100.0,
        alpha: float = 0.01,
        overall: bool = False,
        start: str = "zero",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode = Mode.of(mode)
        self._average: MovingAverage | None = None
        if start not in ("zero", "first"):
            raise ValueError(f"start={start!r}: must be 'zero' or 'first'")
        self.network = network
        self.auxiliary = WeightDecay() if auxiliary is None else auxiliary
        self.overall = bool(overall)
        self.start = start
        # Plain tf.Variables are not saved with the model's weights.
        self._lam = tf.Variable(0.0, trainable=False, name="lam")
        self.lam = lam
        self._share = tf.Variable(0.0, trainable=False, name="alpha")
        self.alpha = alpha
        self._batch_losses = BatchLosses()
        if network.built:
            self._build_state()
            self.built = True

    @property
    def lam(self) -> float:
        """Weight of the auxiliary direction."""
        return float(self._lam)

    @lam.setter
    def lam(self, value: float) -> None:
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"lam={value!r}: must be a finite number >= 0")
        self._lam.assign(value)

    @property
    def alpha(self) -> float:
        """Share of the newest primary gradient in the reference."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        if not 0 < value <= 1:
            raise ValueError(f"alpha={value!r}: must be a number in (0, 1]")
        if self.built and value < 1 and self._average is None and self.mode.averages_reference:
            raise ValueError(f"alpha={value!r}: a model made with alpha=1 keeps no average")
        self._alpha = float(value)
        self._share.assign(value)

    @property
    def steps(self) -> int:
        """Optimisation steps since the model was made or restarted."""
        return self._batch_losses.steps

    def batch_losses(self, since: int = 0) -> np.ndarray:
        """Return the primary loss of each training batch from step `since` on, counted from 0.

        `fit` shows the mean of an epoch. Raises ValueError if more than 1,024 steps have gone."""
        return self._batch_losses.since(since)

    def build(self, input_shape: Any) -> None:
        if not self.network.built:
            # A call, since a model of a person's own may have no `build` that makes its variables.
            self.network(keras.tree.map_shape_structure(keras.KerasTensor, input_shape))
        self._build_state()
        self.built = True

    def _build_state(self) -> None:
        variables = self.network.trainable_variables
        # By identity: in a model of a person's own two layers may have one name.
        self._slot_of = {id(variable): slot for slot, variable in enumerate(variables)}
        names = [".".join(variable.path.split("/")[-2:]) for variable in variables]
        if self.alpha < 1 and self.mode.averages_reference:
            self._average = MovingAverage(variables, self.add_weight, self.start)
        self._statistics = CensoringStatistics(names)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.network(inputs, training=training)

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """As `keras.Model.compile`; `jit_compile=False` keeps XLA out of the censoring and update.

        Only that part is compiled by XLA, which has no sparse products.
        """
        super().compile(*args, jit_compile=False, **kwargs)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError("optimizer: must not scale the loss; use the policy mixed_bfloat16")
        if self.optimizer.gradient_accumulation_steps:
            raise ValueError("optimizer: gradient_accumulation_steps must be None")
        self._jit_update = bool(jit_compile)
        self._compiled_update: Any = None

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return config and {**config, "jit_compile": self._jit_update}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def train_step(self, data: Any) -> dict[str, Any]:
        if self.distribute_strategy.num_replicas_in_sync > 1:
            raise ValueError("AuxiliaryModel trains on one device: it censors whole gradients")
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(persistent=self.auxiliary.coupled) as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight, training=True)
            forward = None if self.mode.ignores_auxiliary else self.auxiliary.forward(x, y, y_pred)
        variables = self.trainable_variables
        values = [variable.value for variable in variables]
        primary = dense(tape.gradient(loss, values))
        auxiliary: Directions = []
        if self.auxiliary.coupled and not self.mode.ignores_auxiliary:
            auxiliary = dense(self.auxiliary.direction(forward, tape, variables))

        if not self.optimizer.built:
            with tf.init_scope():
                self.optimizer.build(variables)
        self._update_function()(primary, auxiliary)
        self._batch_losses.append(loss)
        batch_size = tf.shape(tf.nest.flatten(x)[0])[0]
        # Private, but the metric that `fit` shows as the loss, and that no public method updates.
        self._loss_tracker.update_state(loss, sample_weight=batch_size)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def restart(self, network: keras.Model, optimizer_state: Sequence[Any]) -> None:
        """Return to the first step, with the state of a network like the model's own.

        What has been compiled is kept. The result of training is that of a new model, bit for bit, if
        all that the network and the optimizer do depends on their variables, seeds included.

        Args:
            network: gives the values of all variables.
            optimizer_state: a value for each of the optimizer's variables.
        """
        for own, fresh in zip(self.network.variables, network.variables, strict=True):
            own.assign(fresh)
        for own, value in zip(self.optimizer.variables, optimizer_state, strict=True):
            own.assign(value)
        if self._average is not None:
            self._average.reset()
        self._batch_losses.reset()
        self.reset_censoring_statistics()

    def _update_function(self) -> Any:
        if self.run_eagerly:
            return self._update
        if self._compiled_update is None:
            self._compiled_update = tf.function(
                self._update, jit_compile=self._jit_update, autograph=False
            )
        return self._compiled_update

    def _update(self, primary: Directions, auxiliary: Directions) -> None:
        """One step of the optimizer and the auxiliary direction: all that follows the gradients."""
        variables = self.trainable_variables
        if self.mode.ignores_auxiliary:
            self._apply(primary, variables)
            return
        if not self.auxiliary.coupled:
            auxiliary = dense(self.auxiliary.direction(None, None, variables))
        reference = self._reference(primary)
        scalars = per_variable_products(auxiliary, reference)
        self._count(scalars)
        censored = censor_with(scalars, auxiliary, reference, self.mode, self.overall)
        if self.auxiliary.coupled:
            self._apply(add(primary, self._lam, censored), variables)
            return
        learning_rate = tf.convert_to_tensor(self.optimizer.learning_rate)  # A schedule goes on below.
        self._apply(primary, variables)
        for variable, direction in zip(variables, censored, strict=True):
            if direction is not None:
                rate = tf.cast(learning_rate * self._lam, direction.dtype)
                variable.assign_sub(rate * direction)
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))

    def _apply(self, gradients: Directions, variables: Sequence[keras.Variable]) -> None:
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        self.optimizer.apply_gradients(pairs)

    def _reference(self, primary: Directions) -> Directions:
        if self._average is None:
            return primary
        return self._average.update(self._slots(), primary, self._share.read_value())

    def _slots(self) -> list[int]:
        """Rank of each trainable variable among those that were trainable when the model was built."""
        for variable in self.trainable_variables:
            if id(variable) not in self._slot_of:
                raise ValueError(
                    f"variable {variable.path} has become trainable since the AuxiliaryModel was built: "
                    "make a new AuxiliaryModel of the network"
                )
        return [self._slot_of[id(variable)] for variable in self.trainable_variables]

    def _count(self, scalars: tf.Tensor) -> None:
        rows = [tf.zeros((3,))] * len(self._slot_of)
        for slot, row in zip(self._slots(), tf.unstack(scalars), strict=True):
            rows[slot] = row
        self._statistics.add(rows)

    def censoring_statistics(self) -> dict[str, float]:
        """Return how the auxiliary direction u stood to the reference v since the last reset.

        Returns:
            "cosine/<layer>.<variable>", the mean of ⟨u, v⟩ / (‖u‖·‖v‖), and
            "conflict/<layer>.<variable>", the share of steps with ⟨u, v⟩ < 0, for each variable, and
            "cosine/overall" and "conflict/overall", from scalars summed over the variables.
            Steps in which u or v is zero do not count; without any other, the entry is left out.
            Always empty in a mode that ignores the auxiliary task.
        """
        return self._statistics.means()

    def reset_censoring_statistics(self) -> None:
        """Forget all that `censoring_statistics` has counted."""
        self._statistics.reset()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "auxiliary": keras.saving.serialize_keras_object(self.auxiliary),
            "mode": mode_config(self.mode),
            "lam": self.lam,
            "alpha": self.alpha,
            "overall": self.overall,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AuxiliaryModel:
        parts = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("network", "auxiliary")
        }
        return cls(**{**config, **parts, "mode": mode_from_config(config["mode"])})
