"""Sentiment of movie reviews; weight decay is the auxiliary direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from auxgrad.config.schema import Config, DataConfig, ProblemConfig
from auxgrad.problems.base import Data, Part, Problem, Training
from auxgrad.problems.reviews import corpus


def create(config: Config) -> Problem:
    """Return the problem for a config."""
    return ReviewSentiment(config.problem, config.data)


@dataclass(frozen=True)
class ReviewSentiment(Problem):
    """Dense relu layers and one logit on multi-hot reviews, sigmoid cross-entropy, Adam."""

    uses_global_state = False

    options: ProblemConfig
    source: DataConfig

    def load(self, say: Callable[[str], None]) -> Data:
        reviews = corpus.load(self.source, say)
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
        from auxgrad.problems.reviews.network import build

        return build(self.options, data.train[0].shape[1], seed)
