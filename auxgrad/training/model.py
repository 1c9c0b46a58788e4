"""A Keras model whose training step censors auxiliary directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.censoring.rules import Rule
from auxgrad.training.auxiliaries import Auxiliary, named
from auxgrad.training.losses import AuxiliaryLosses
from auxgrad.training.saving import from_config, to_config
from auxgrad.training.steering import Steering
from auxgrad.training.step import replicas
from auxgrad.training.step.accumulation import check_replicas
from auxgrad.training.step.counters import BatchLosses
from auxgrad.training.step.directions import Directions, dense
from auxgrad.training.step.update import CensoredUpdate
from auxgrad.training.streams import Batches, split, symbolic


@keras.saving.register_keras_serializable("auxgrad")
class AuxiliaryModel(Steering, keras.Model):
    """A Keras model that trains a network with censored auxiliary directions.

    The loss that `compile` takes is the primary loss; g is its gradient. Each auxiliary has a weight w
    and a direction u: the gradient of an `AuxiliaryLoss`, or the variables themselves for `WeightDecay`.
    At every step t, u is censored against the reference v, the moving average of g:

        v_t = (1 − alpha)·v_{t−1} + alpha·g_t            (v = g if alpha = 1)
        d = ⟨u, v⟩,  U = ‖u‖²,  V = ‖v‖²
        (a, b) = rule(d, U, V)                           the rule of the mode
        AuxiliaryLoss:  the optimizer gets g + Σ lam·w·(a·u + b·v)
        WeightDecay:    after that step, θ ← θ − learning_rate·lam·w·(a·u + b·v)

    For example, the mode Projection has (a, b) = (1, −min(d, 0) / V): it subtracts from u the part that
    conflicts with v. A joint mode has no rule: it replaces g by w_0·g and each lam·w·u by w_i·lam·w·u,
    with weights w_i from the Gram matrix of all of them. `auxgrad.censoring` has the formulas and their
    sources.

    `compile`, `fit`, `train_on_batch`, `evaluate`, `predict` and `save` work as in Keras. The logs have
    an entry `<name>_loss` for each auxiliary loss. `auxgrad.zip_streams` gives such a loss its own data.

    Args:
        network: Any Keras model.
        auxiliary: `WeightDecay()` (the default), `AuxiliaryLoss(...)`, or a dict of several by name.
        mode: Name in `auxgrad.censoring.MODES`, `Mode`, or rule `(d, U, V) -> (a, b)`.
        lam: Weight of the auxiliary directions, finite and >= 0. It can be assigned during training.
        alpha: Share of the newest primary gradient (GradVac: cosine) in the moving average, in (0, 1];
            1 means no averaging. It can be assigned during training.
        overall: Whether to use one (a, b), or one w, for all variables, with d, U and V summed over the
            variables that have both gradients. Otherwise each variable has its own.
        start: Start of the moving average: "zero" for v_0 = 0, "first" for v_1 = g_1.
        seed: Seed of the random numbers that a mode draws. It can be assigned during training.
        **kwargs: Arguments of `keras.Model`, such as `name`.

    Raises:
        ValueError: An argument is out of range; or, in `compile`, the optimizer accumulates gradients
            and there are several replicas.

    Examples:
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
        # Keras finds the metrics in an attribute of the model.
        self._metrics_of_losses = list(self._auxiliary_losses.trackers.values())
        self.overall = bool(overall) if self.mode.overall is None else self.mode.overall
        self.start = start
        self._make_knobs(lam, alpha, seed)
        self._batch_losses = BatchLosses()
        if network.built:
            self._build_state()
            self.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of the network, which is built first if necessary."""
        if not self.network.built:  # Build it here, because `build` gets shapes without types.
            self.network(keras.tree.map_structure(symbolic, inputs))
        return super().__call__(inputs, *args, **kwargs)

    def build(self, input_shape: Any) -> None:
        """Build the network, and the state that the mode keeps between steps."""
        if not self.network.built:
            # Call the network, because a user's model may have no `build` that makes its variables.
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
        """Return the outputs of the network."""
        return self.network(inputs, training=training)

    def compile(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any) -> None:
        """Configure the model for training, as `keras.Model.compile` does.

        XLA has no sparse products, and so compiles only censoring and the update of the variables.

        Args:
            *args: Arguments of `keras.Model.compile`; `loss` is the primary loss.
            jit_compile: Whether XLA compiles censoring and update; "auto" means True.
            **kwargs: Arguments of `keras.Model.compile`.

        Raises:
            ValueError: An auxiliary loss has the name of the loss of an output, or the optimizer
                accumulates gradients and there are several replicas.
        """
        self._auxiliary_losses.check_compiled(kwargs.get("loss", args[1] if len(args) > 1 else None))
        super().compile(*args, jit_compile=False, **kwargs)
        if self._batch_losses.steps == 0:
            self._batch_losses = BatchLosses(self.steps_per_execution)
        check_replicas(self.optimizer, self.distribute_strategy.num_replicas_in_sync)
        self._jit_update = bool(jit_compile)
        self._compiled_update = tf.function(self._step, jit_compile=self._jit_update, autograph=False)

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile` as Keras saves them."""
        config = super().get_compile_config()
        return config and {**config, "jit_compile": self._jit_update}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model with the arguments that `get_compile_config` returned."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self._prepare_optimizer()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Take an optimisation step and return the logs."""
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
        """Return all variables whose values further training depends on; create missing ones first."""
        self._prepare_optimizer()
        held = [*self.weights, *self.network.variables, *self.optimizer.variables]
        return list({id(each): each for each in [*held, self._batch_losses.counter]}.values())

    def has_finite_weights(self) -> bool:
        """Return whether no weight of the network is NaN or infinite."""
        return all(np.isfinite(weight.value.numpy()).all() for weight in self.network.weights)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluate a batch and return the logs."""
        return self._logs(*self._forward(data, training=False))

    def predict_step(self, data: Any) -> Any:
        """Return the outputs of the network for a batch."""
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
        # A private metric: `fit` shows it as the loss, and no public method updates it.
        self._loss_tracker.update_state(loss * replicas.count(), sample_weight=batches.size())
        self._auxiliary_losses.log(losses, batches)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return self._auxiliary_losses.without_missing(logs, losses)

    def restart(self, network: keras.Model, optimizer_state: Sequence[Any]) -> None:
        """Reset the model to the state before its first step, without compiling it again.

        Training then gives the result of a new model, bit for bit, if everything that the network and
        the optimizer do depends on their variables, including seeds.

        Args:
            network: Network of the same structure, with the initial values of all variables.
            optimizer_state: Initial value of each variable of the optimizer.
        """
        owned = [*self.network.variables, *self.optimizer.variables]
        for own, value in zip(owned, [*network.variables, *optimizer_state], strict=True):
            own.assign(value)
        if self._update is not None:
            self._update.restart()
        self._batch_losses.reset()

    def _update_function(self) -> Any:
        is_alone = replicas.count() == 1  # Several replicas cannot merge inside a tf.function.
        return self._compiled_update if is_alone and not self.run_eagerly else self._step

    def _step(self, primary: Directions, auxiliary: Mapping[str, Directions]) -> None:
        assert self._update is not None
        self._update(self.optimizer, self.trainable_variables, primary, auxiliary)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as Keras saves them."""
        return {
            **super().get_config(),
            **to_config(self.network, self.auxiliaries, self.mode),
            **{name: getattr(self, name) for name in ("lam", "alpha", "overall", "start", "seed")},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AuxiliaryModel:
        """Return the model with the arguments that `get_config` returned."""
        return cls(**{**config, **from_config(config)})
