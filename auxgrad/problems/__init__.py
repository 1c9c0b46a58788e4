"""What is trained: data, network, loss and auxiliary direction, one module for each `problem.name`.

A module here has a function `build(config, reviews, seed)` that returns a `Problem`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import keras
import tensorflow as tf

from auxgrad.auxiliaries import Auxiliary
from auxgrad.config import ProblemConfig
from auxgrad.data import Reviews


@dataclass(frozen=True)
class Problem:
    """A network and all that its training needs; the data sets give batches (x, y).

    `train` has no end: each `steps_per_epoch` batches are one epoch of `train_size` examples.
    """

    network: keras.Model
    auxiliary: Auxiliary
    optimizer: keras.optimizers.Optimizer
    loss: keras.losses.Loss
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    train_size: int
    steps_per_epoch: int
    description: str


def build(config: ProblemConfig, reviews: Reviews, seed: int) -> Problem:
    """The problem that `config.name` names; the seed fixes initial weights and batch order."""
    module = importlib.import_module(f"auxgrad.problems.{config.name}")
    problem: Problem = module.build(config, reviews, seed)
    return problem
