"""Sentiment of movie reviews, with weight decay as the auxiliary task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from auxgrad.problems.base import Problem, Training
from auxgrad.problems.data import Data, Part
from auxgrad.problems.options import Number, PositiveWhole, Whole
from auxgrad.problems.reviews.sources import AclImdb, Corpus, Imdb, Imdb25k

__all__ = ["AclImdb", "Corpus", "Imdb", "Imdb25k", "Reviews"]


class Reviews(Problem):
    """Classification of multi-hot movie reviews by dense relu layers and one logit.

    The loss is the sigmoid cross-entropy, and the optimizer is Adam. Source: V. Tran-Thien, *Censoring
    the auxiliary loss gradient to mitigate risks of negative transfer*.
    """

    uses_global_state = False

    data: Corpus = Imdb25k()
    hidden: Annotated[
        tuple[Annotated[Whole, Field(ge=1)], ...], Field(description="a list of whole numbers >= 1")
    ] = (512, 512)
    learning_rate: Annotated[Number, Field(gt=0, allow_inf_nan=False, description="a number > 0")] = (
        0.001
    )
    batch_size: PositiveWhole = 512
    epochs: PositiveWhole = 200
    patience: PositiveWhole = 5

    def load(self) -> Data:
        """Return the reviews as sparse multi-hot rows, encoded now or read from the cache."""
        import numpy as np

        from auxgrad.problems.reviews import corpus

        reviews = corpus.load(self.data)
        matrix, labels = reviews.matrix(), reviews.labels.astype(np.float32)[:, np.newaxis]

        def part(rows: np.ndarray) -> Part:
            return matrix[rows], labels[rows]

        return Data(
            name=reviews.name,
            fingerprint=reviews.fingerprint,
            train=part(reviews.train),
            validation=part(reviews.validation),
            test=part(reviews.test),
            examples="reviews",
            details={"num_words": reviews.num_words},
        )

    def build(self, data: Data, seed: int) -> Training:
        """Return a dense network for as many columns as the data has."""
        import keras

        import auxgrad
        from auxgrad.problems.reviews import network

        inputs = data.train[0].shape[1]
        widths = "-".join(str(width) for width in (inputs, *self.hidden, 1))
        return Training(
            network=network.build(inputs, self.hidden, seed),
            auxiliary=auxgrad.WeightDecay(),
            optimizer=keras.optimizers.Adam(self.learning_rate, name="adam"),
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
            loss_label="cross-entropy, nats",
            metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],  # 0 is p = 1/2 as logit.
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            description=(f"{widths} dense, Adam {self.learning_rate:g}, batches of {self.batch_size}"),
        )
