"""Classify handwritten digits, with the auxiliary task whether the digit is odd."""

from typing import Annotated

import keras
from pydantic import Field
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import auxgrad


def odd_loss(x, y, y_pred):
    """Return the auxiliary loss of each image: the cross-entropy of "the digit is odd"."""
    odd = keras.ops.softmax(y_pred)[:, 1::2]
    return keras.losses.binary_crossentropy(y[:, None] % 2, keras.ops.sum(odd, axis=1, keepdims=True))


class Digits(auxgrad.Problem):
    """Classification of 8 × 8 images of digits; whether the digit is odd is the auxiliary task."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    train_size: Annotated[int, Field(ge=10, le=1000)] = 200
    epochs: Annotated[int, Field(ge=1)] = 100

    def load(self):
        """Return the images and their digits for training, validation and test."""
        x, y = load_digits(return_X_y=True)
        x, y = (x / 16).astype("float32"), y.astype("float32")
        x, x_test, y, y_test = train_test_split(x, y, test_size=500, random_state=0)
        x, x_val, y, y_val = train_test_split(x, y, test_size=297, random_state=0)
        train = x[: self.train_size], y[: self.train_size]
        validation, test = (x_val, y_val), (x_test, y_test)
        return auxgrad.Data(train=train, validation=validation, test=test, examples="images")

    def build(self, data, seed):
        """Return a dense network and how to train it."""
        hidden = [keras.layers.Dense(units, activation="relu") for units in self.hidden]
        return auxgrad.Training(
            network=keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)]),
            auxiliary=auxgrad.AuxiliaryLoss(odd_loss),
            optimizer=keras.optimizers.Adam(self.learning_rate),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            batch_size=32,
            epochs=self.epochs,
            patience=5,
        )
