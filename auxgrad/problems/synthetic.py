"""A synthetic regression whose auxiliary task has its own examples."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

import auxgrad

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["Synthetic"]

ROWS = {"train": 1_000, "auxiliary": 1_000, "validation": 1_000, "test": 10_000}
INPUTS, UNITS, LAYERS, OUTPUTS = 250, 100, 4, 100
RECIPE = (
    "numpy.random.RandomState(0), as float32: rand(n, 250) for primary training, auxiliary training, "
    "validation, test; matrices 10*randn, 10*randn for unrelated, first + 3.5*randn for similar; "
    "targets tanh(x @ matrix)"
)

PositiveWhole = Annotated[int, Field(strict=True, ge=1, description="a whole number >= 1")]


class Synthetic(auxgrad.Problem):
    """Regression on tanh(x @ B); the auxiliary task uses the matrix B, a noisy B, or another matrix.

    Source: V. Tran-Thien, *Censoring the auxiliary loss gradient to mitigate risks of negative
    transfer*. The examples are the published ones, for every seed, because the level of the losses
    depends on the draw. The batches of a run are the same in every epoch.
    """

    uses_global_state = False

    # There is no default, so that the name of a run always shows the task.
    task: Annotated[
        Literal["same", "similar", "unrelated"], Field(description="one of same, similar, unrelated")
    ]
    epochs: PositiveWhole = 2000
    patience: PositiveWhole = 10

    def load(self) -> auxgrad.Data:
        """Return the published examples, with targets for the chosen auxiliary task."""
        import numpy as np

        inputs, matrices = draw()
        # Hash what was drawn, not the targets: these may differ between machines in the last bit.
        digest = hashlib.sha256()
        for array in (*inputs.values(), matrices["same"], matrices[self.task]):
            digest.update(array.data)

        def part(name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            is_auxiliary = name == "auxiliary"
            matrix = matrices[self.task if is_auxiliary else "same"]
            # Compute in float64: rounding to float32 then hides the order in which a machine adds.
            y = np.tanh(inputs[name] @ matrix.astype(np.float64)).astype(np.float32)
            return inputs[name], {"auxiliary" if is_auxiliary else "primary": y}

        return auxgrad.Data(
            train=part("train"),
            auxiliary={"auxiliary": part("auxiliary")},
            validation=part("validation"),
            test=part("test"),
            fingerprint=digest.hexdigest(),
            details={"task": self.task, "recipe": RECIPE},
        )

    def build(self, data: auxgrad.Data, seed: int) -> auxgrad.Training:
        """Return a network with four shared layers and a linear head for each task."""
        import keras

        widths = "-".join(str(width) for width in (INPUTS, *[UNITS] * LAYERS, OUTPUTS))
        return auxgrad.Training(
            network=_network(seed),
            auxiliary={
                "auxiliary": auxgrad.AuxiliaryLoss({"auxiliary": keras.losses.MeanSquaredError()})
            },
            optimizer=keras.optimizers.Adam(0.001, epsilon=1e-8, name="adam"),
            loss={"primary": keras.losses.MeanSquaredError()},
            loss_label="mean squared error",
            start="first",
            reshuffle=False,
            batch_size=100,
            epochs=self.epochs,
            patience=self.patience,
            description=f"{widths} dense, two heads, Adam 0.001, batches of 100",
        )


def draw() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the published inputs of each part and the matrix of each auxiliary task, all float32.

    The matrix of the primary task is that of the auxiliary task `same`.
    """
    import numpy as np

    # NumPy guarantees that the legacy stream never changes. The published program draws in this order.
    random = np.random.RandomState(0)
    inputs = {part: random.rand(rows, INPUTS) for part, rows in ROWS.items()}
    primary, unrelated = (10 * random.randn(INPUTS, OUTPUTS) for _ in range(2))
    similar = primary.astype(np.float32) + 3.5 * random.randn(INPUTS, OUTPUTS)
    matrices = {"same": primary, "similar": similar, "unrelated": unrelated}
    return _float32(inputs), _float32(matrices)


def _float32(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype("float32") for name, array in arrays.items()}


def _network(seed: int) -> keras.Model:
    """Return a new network: shared relu layers and a linear head for each task."""
    import keras
    import numpy as np

    # Skip the first number, from which the order of the batches is derived in every problem.
    _, *seeds = np.random.SeedSequence(seed).generate_state(LAYERS + 3)

    def dense(units: int, name: str, activation: str | None = None) -> keras.layers.Layer:
        initializer = keras.initializers.GlorotUniform(int(seeds.pop(0)))
        return keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)

    inputs = hidden = keras.Input((INPUTS,), name="inputs")
    for i in range(LAYERS):
        hidden = dense(UNITS, f"hidden_{i + 1}", "relu")(hidden)
    heads = {name: dense(OUTPUTS, name)(hidden) for name in ("primary", "auxiliary")}
    return keras.Model(inputs, heads, name="synthetic")
