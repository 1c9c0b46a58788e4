"""A Keras model whose training step censors the auxiliary direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode, checked_lam
from auxgrad.censoring.rules import Rule
from auxgrad.training.auxiliaries import Auxiliary, named
from auxgrad.training.losses import AuxiliaryLosses
from auxgrad.training.saving import from_config, to_config
from auxgrad.training.step import replicas
from auxgrad.training.step.accumulation import check_replicas
from auxgrad.training.step.counters import BatchLosses
from auxgrad.training.step.directions import Directions, dense
from auxgrad.training.step.update import CensoredUpdate
from auxgrad.training.streams import Batches, split, symbolic


@keras.saving.register_keras_serializable("auxgrad")
class AuxiliaryModel(keras.Model):
    r"""Trains a network on its primary loss with censored auxiliary directions.

    At every step, with g the gradient of the compiled loss, and for each auxiliary with direction u and
    weight w:

        v_t = (1 − alpha)·v_{t−1} + alpha·g_t            (v = g when alpha = 1)
        coupled:    the optimizer gets g + lam·w·(a·u + b·v), summed over the auxiliaries
        decoupled:  then θ ← θ − learning_rate·lam·w·(a·u + b·v)

    (a, b) depends on the mode, see `auxgrad.censoring`, and on the auxiliary; losses are coupled, weight
    decay is decoupled. A mode that weighs all together has w_0·g in place of g, and w_i·u of the others.
    `compile`, `fit`, `train_on_batch`, `evaluate`, `predict` and `save` are those of Keras; logs have
    `<name>_loss` for each auxiliary loss. With `auxgrad.zip_streams` such a loss has data of its own.

    Args:
        network: any Keras model; `compile(loss=...)` is its primary loss.
        auxiliary: `WeightDecay()` (default), `AuxiliaryLoss(...)`, or a dict of several by name.
        mode: a name in `auxgrad.censoring.MODES`, a `Mode` or a rule.
        lam: weight of the auxiliary directions, finite and >= 0; can be assigned during training.
        alpha: share of the newest primary gradient (GradVac: cosine) in an average; can be assigned too.
        overall: one (a, b), or one w, for all variables instead of one each.
        start: "zero" begins the moving average at v_0 = 0, "first" at v_1 = g_1.
        seed: of what a mode draws; can be assigned too.

    Raises:
        ValueError: an argument out of range; at `compile`, an optimizer that accumulates gradients on
            several replicas.

    >>> from auxgrad import AuxiliaryLoss
    >>> inputs = keras.Input((4,))
    >>> outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("digit", "odd")}
    >>> network = keras.Model(inputs, outputs)
    >>> model = AuxiliaryModel(network, AuxiliaryLoss({"odd": "mse"}), mode="Orthogonal")
    >>> model.compile(optimizer="adam", loss={"digit": "mse"})
    >>> y = {"digit": tf.ones((8, 1)), "odd": tf.zeros((8, 1))}
    >>> history = model.fit(tf.ones((8, 4)), y, epochs=2, verbose=0)
    >>> sorted(history.history)
    ['loss', 'odd_loss']
    """

    def __init__(
        self,
        network: keras.Model,
        auxiliary: Auxiliary | Mapping[str, Auxiliary] | None = None,
        mode: str | Mode | Rule = "Projection",
        lam: float = 1.0,
        alpha: float = 0.01,
        overall: bool = False,
        start: str = "zero",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mode = Mode.of(mode)
        self._update: CensoredUpdate | None = None
        if start not in ("zero", "first"):
            raise ValueError(f"start={start!r}: must be 'zero' or 'first'")
        self.network = network
        self.auxiliaries = named(auxiliary)
        self._auxiliary_losses = AuxiliaryLosses(self.auxiliaries)
        self._metrics_of_losses = list(self._auxiliary_losses.trackers.values())  # Where Keras looks.
        self.overall = bool(overall) if self.mode.overall is None else self.mode.overall
        self.start = start
        self._lam = tf.Variable(0.0, trainable=False, name="lam")
        self.lam = lam
        self._share = tf.Variable(0.0, trainable=False, name="alpha")
        self.alpha = alpha
        self._seed = tf.Variable(seed, trainable=False, name="seed", dtype=tf.int64)
        self._batch_losses = BatchLosses()
        if network.built:
            self._build_state()
            self.built = True

    @property
    def lam(self) -> float:
        """Weight of the auxiliary direction."""
        return float(self._lam.numpy())

    @lam.setter
    def lam(self, value: float) -> None:
        self._lam.assign(checked_lam(value))

    @property
    def alpha(self) -> float:
        """Share of the newest primary gradient in the reference."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        if not 0 < value <= 1:
            raise ValueError(f"alpha={value!r}: must be a number in (0, 1]")
        has_no_average = self._update is not None and not self._update.has_average
        if has_no_average and value < 1 and self.mode.averages_reference:
            raise ValueError(f"alpha={value!r}: a model made with alpha=1 keeps no average")
        self._alpha = float(value)
        self._share.assign(value)

    @property
    def seed(self) -> int:
        """Of what a mode draws."""
        return int(self._seed.numpy())

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed.assign(value)

    @property
    def steps(self) -> int:
        """Optimisation steps since the model was made or restarted."""
        return self._batch_losses.steps

    def batch_losses(self, since: int = 0) -> np.ndarray:
        """Return the primary losses from step `since` on; ValueError for more than are kept (1,024)."""
        return self._batch_losses.since(since)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.network.built:  # `build` gets shapes without types.
            self.network(keras.tree.map_structure(symbolic, inputs))
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        if not self.network.built:
            # A call, since a model of the user's own may have no `build` that makes its variables.
            self.network(keras.tree.map_shape_structure(keras.KerasTensor, input_shape))
        self._build_state()
        self.built = True

    def _build_state(self) -> None:
        if self._update is None:
            has_average = self.alpha < 1 and self.mode.averages_reference
            self._update = CensoredUpdate(
                self.auxiliaries,
                self.mode,
                self.overall,
                self._lam,
                self._share,
                self._seed,
                self.network.trainable_variables,
                self.add_weight,
                has_average,
                self.start,
            )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.network(inputs, training=training)

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """As `keras.Model.compile`; `jit_compile=False` keeps XLA out of the censoring and update.
        All else is never compiled by XLA, which has no sparse products.
        """
        self._auxiliary_losses.check_compiled(kwargs.get("loss", args[1] if len(args) > 1 else None))
        super().compile(*args, jit_compile=False, **kwargs)
        if self._batch_losses.steps == 0:
            self._batch_losses = BatchLosses(self.steps_per_execution)
        check_replicas(self.optimizer, self.distribute_strategy.num_replicas_in_sync)
        self._jit_update = bool(jit_compile)
        self._compiled_update = tf.function(self._step, jit_compile=self._jit_update, autograph=False)

    def get_compile_config(self) -> dict[str, Any]:
        config = super().get_compile_config()
        return config and {**config, "jit_compile": self._jit_update}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self._prepare_optimizer()

    def train_step(self, data: Any) -> dict[str, Any]:
        ignores = self.mode.ignores_auxiliary
        with tf.GradientTape(persistent=bool(self._metrics_of_losses) and not ignores) as tape:
            batches, y_pred, loss, losses = self._forward(data, training=True)
            with tf.init_scope():
                self._prepare_optimizer()
            scaled = self.optimizer.scale_loss(loss)
            others = {} if ignores else tf.nest.map_structure(self.optimizer.scale_loss, losses)
        values = [variable.value for variable in self.trainable_variables]
        self._auxiliary_losses.check_variables(tape, others, self.network.variables)
        primary, auxiliary = tf.nest.map_structure(
            lambda each: replicas.summed(dense(tape.gradient(each, values))), (scaled, others)
        )
        self._update_function()(primary, auxiliary)
        self._batch_losses.append(replicas.summed([loss])[0])
        return self._logs(batches, y_pred, loss, losses)

    def _prepare_optimizer(self) -> None:
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        assert self._update is not None
        self._update.accumulate_for(self.optimizer, self.trainable_variables)

    def training_variables(self) -> list[Any]:
        """Return all variables on whose values further training depends, made where they are missing."""
        self._prepare_optimizer()
        held = [*self.weights, *self.network.variables, *self.optimizer.variables]
        return list({id(each): each for each in [*held, self._batch_losses.counter]}.values())

    def test_step(self, data: Any) -> dict[str, Any]:
        return self._logs(*self._forward(data, training=False))

    def predict_step(self, data: Any) -> Any:
        return self(split(data).primary[0], training=False)

    def _forward(self, data: Any, training: bool) -> tuple[Batches, Any, Any, dict[str, Any]]:
        batches = split(data)
        x, y, sample_weight = batches.primary
        y_pred = self(x, training=training)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=training)
        without_own = training and self.mode.ignores_auxiliary
        losses = self._auxiliary_losses.values(self, batches, y_pred, training, without_own)
        return batches, y_pred, loss, losses

    def _logs(
        self, batches: Batches, y_pred: Any, loss: Any, losses: Mapping[str, Any]
    ) -> dict[str, Any]:
        x, y, sample_weight = batches.primary
        # Private, but the metric that `fit` shows as the loss, and that no public method updates.
        self._loss_tracker.update_state(loss * replicas.count(), sample_weight=batches.size())
        self._auxiliary_losses.log(losses, batches)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return self._auxiliary_losses.without_missing(logs, losses)

    def restart(self, network: keras.Model, optimizer_state: Sequence[Any]) -> None:
        """Return to the first step, with the state of a network like the model's own.

        What has been compiled is kept. The result of training is that of a new model, bit for bit, if
        all that the network and the optimizer do depends on their variables, seeds included.

        Args:
            network: gives the values of all variables.
            optimizer_state: a value for each of the optimizer's variables.
        """
        owned = [*self.network.variables, *self.optimizer.variables]
        for own, value in zip(owned, [*network.variables, *optimizer_state], strict=True):
            own.assign(value)
        if self._update is not None:
            self._update.restart()
        self._batch_losses.reset()

    def _update_function(self) -> Any:
        is_alone = replicas.count() == 1  # Several cannot meet inside a function.
        return self._compiled_update if is_alone and not self.run_eagerly else self._step

    def _step(self, primary: Directions, auxiliary: Mapping[str, Directions]) -> None:
        assert self._update is not None
        self._update(self.optimizer, self.trainable_variables, primary, auxiliary)

    def censoring_statistics(self) -> dict[str, float]:
        """Return how the auxiliary direction u stood to the reference v since the last reset.

        Returns:
            "cosine/<layer>.<variable>", the mean of ⟨u, v⟩ / (‖u‖·‖v‖), and
            "conflict/<layer>.<variable>", the share of steps with ⟨u, v⟩ < 0, for each variable, and
            "cosine/overall" and "conflict/overall", from scalars summed over the variables.
            Steps in which u or v is zero do not count; without any other, the entry is left out.
            Of several auxiliaries each has its own: "cosine/<auxiliary>/<layer>.<variable>", ...
            Always empty in a mode that ignores the auxiliary task.
        """
        return {} if self._update is None else self._update.statistics()

    def reset_censoring_statistics(self) -> None:
        """Forget all that `censoring_statistics` has counted."""
        if self._update is not None:
            self._update.reset_statistics()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **to_config(self.network, self.auxiliaries, self.mode),
            **{name: getattr(self, name) for name in ("lam", "alpha", "overall", "start", "seed")},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AuxiliaryModel:
        return cls(**{**config, **from_config(config)})
