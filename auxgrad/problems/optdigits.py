"""Handwritten digits of scikit-learn: classify the digit, with the help of two simpler questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

import auxgrad

if TYPE_CHECKING:
    import numpy as np

__all__ = ["OptDigits"]

QUESTIONS = ("odd", "large")
PositiveWhole = Annotated[int, Field(strict=True, ge=1, description="a whole number >= 1")]


class OptDigits(auxgrad.Problem):
    """Classification of 8 × 8 images of digits from few examples.

    Two auxiliary losses ask whether the digit is odd and whether it is 5 or more. The 1,797 images are
    those of `sklearn.datasets.load_digits`, the test set of UCI's *Optical recognition of handwritten
    digits*: 897 for testing, 500 for validation, and `train_size` of the rest for training.
    """

    uses_global_state = False

    train_size: Annotated[
        int, Field(strict=True, ge=10, le=400, description="a whole number from 10 to 400")
    ] = 200
    hidden: PositiveWhole = 64
    epochs: PositiveWhole = 1000
    patience: PositiveWhole = 10

    def load(self) -> auxgrad.Data:
        """Return the images and three targets for each, as float32."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, digit = load_digits(return_X_y=True)
        x, digit = (x / 16).astype("float32"), digit.astype("float32")[:, None]
        x, x_test, digit, digit_test = train_test_split(x, digit, test_size=897, random_state=0)
        x, x_val, digit, digit_val = train_test_split(x, digit, test_size=500, random_state=0)
        train, digit_train = x[: self.train_size], digit[: self.train_size]
        return auxgrad.Data(
            train=(train, _targets(digit_train)),
            validation=(x_val, _targets(digit_val)),
            test=(x_test, _targets(digit_test)),
            examples="images",
        )

    def build(self, data: auxgrad.Data, seed: int) -> auxgrad.Training:
        """Return a network with one hidden layer and a head for each target."""
        import keras
        import numpy as np

        # Skip the first number, from which the order of the batches is derived in every problem.
        _, *seeds = np.random.SeedSequence(seed).generate_state(5)

        def dense(units: int, name: str, activation: str | None = None) -> keras.layers.Layer:
            initializer = keras.initializers.GlorotUniform(int(seeds.pop(0)))
            return keras.layers.Dense(units, activation, kernel_initializer=initializer, name=name)

        inputs = keras.Input((64,), name="inputs")
        hidden = dense(self.hidden, "hidden", "relu")(inputs)
        heads = {"digit": dense(10, "digit")(hidden)}
        heads |= {name: dense(1, name)(hidden) for name in QUESTIONS}
        return auxgrad.Training(
            network=keras.Model(inputs, heads, name="optdigits"),
            auxiliary={
                name: auxgrad.AuxiliaryLoss({name: keras.losses.BinaryCrossentropy(from_logits=True)})
                for name in QUESTIONS
            },
            optimizer=keras.optimizers.Adam(0.01, name="adam"),
            loss={"digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
            metrics={"digit": ["accuracy"]},
            loss_label="cross-entropy, nats",
            batch_size=40,
            epochs=self.epochs,
            patience=self.patience,
            description=f"64-{self.hidden} dense, three heads, Adam 0.01, batches of 40",
        )


def _targets(digit: np.ndarray) -> dict[str, np.ndarray]:
    return {"digit": digit, "odd": digit % 2, "large": (digit >= 5).astype("float32")}
