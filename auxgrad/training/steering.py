"""Knobs and statistics of a model, which a user changes and reads while it trains."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode, checked_lam
from auxgrad.training.step.counters import BatchLosses

if TYPE_CHECKING:
    from auxgrad.training.step.update import CensoredUpdate


class Steering:
    """What `AuxiliaryModel` offers beside the methods of `keras.Model`."""

    mode: Mode
    _alpha: float
    _update: CensoredUpdate | None
    _batch_losses: BatchLosses

    def _make_knobs(self, lam: float, alpha: float, seed: int) -> None:
        self._lam = tf.Variable(0.0, trainable=False, name="lam")
        self.lam = lam
        self._share = tf.Variable(0.0, trainable=False, name="alpha")
        self.alpha = alpha
        self._seed = tf.Variable(seed, trainable=False, name="seed", dtype=tf.int64)

    @property
    def lam(self) -> float:
        """Weight of the auxiliary directions, finite and >= 0; can be assigned during training."""
        held = float(self._lam.numpy())
        with np.errstate(over="ignore"):
            is_given = np.float32(self._given_lam) == held
        return self._given_lam if is_given else held  # The variable holds it rounded to 32 bits.

    @lam.setter
    def lam(self, value: float) -> None:
        self._given_lam = float(checked_lam(value))
        self._lam.assign(self._given_lam)

    @property
    def alpha(self) -> float:
        """Share of the newest value in the moving average, in (0, 1]; can be assigned, too."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        if not (isinstance(value, Real) and 0 < value <= 1):
            raise ValueError(f"alpha={value!r}: must be a number in (0, 1]")
        has_no_average = self._update is not None and not self._update.has_average
        if has_no_average and value < 1 and self.mode.averages_reference:
            raise ValueError(f"alpha={value!r}: a model made with alpha=1 keeps no average")
        self._alpha = float(value)
        self._share.assign(value)

    @property
    def seed(self) -> int:
        """Seed of the random numbers that a mode draws; can be assigned, too."""
        return int(self._seed.numpy())

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed.assign(value)

    @property
    def steps(self) -> int:
        """Number of optimisation steps since the model was made or restarted."""
        return self._batch_losses.steps

    def batch_losses(self, since: int = 0) -> np.ndarray:
        """Return the primary losses of the training steps since a step.

        Args:
            since: First step, counted from 0.

        Returns:
            A float32 array with one loss for each step.

        Raises:
            ValueError: The first of these losses is no longer kept. The model keeps the last 1,024
                losses, or those of two calls of TensorFlow if `steps_per_execution` is larger than 512.
        """
        return self._batch_losses.since(since)

    def censoring_statistics(self) -> dict[str, float]:
        """Return how well the auxiliary direction u agreed with the reference v since the last reset.

        Returns:
            A dict with these entries for each variable, and for all variables together, with d = ⟨u, v⟩,
            U = ‖u‖² and V = ‖v‖² summed over the variables:

            * "cosine/<layer>.<variable>" and "cosine/overall": the mean of d / √(U·V), from -1 to 1;
            * "conflict/<layer>.<variable>" and "conflict/overall": the share of steps with d < 0.

            Steps in which u or v is zero do not count. An entry without any step is left out. With
            several auxiliaries each has its own entries: "cosine/<auxiliary>/<layer>.<variable>", ...
            The dict is empty in a mode that ignores the auxiliary task.
        """
        return {} if self._update is None else self._update.statistics()

    def reset_censoring_statistics(self) -> None:
        """Reset the statistics that `censoring_statistics` returns."""
        if self._update is not None:
            self._update.reset_statistics()
