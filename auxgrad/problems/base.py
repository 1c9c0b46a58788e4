"""Base classes of problems: their options, their data, and how a network is trained on them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic_core import to_jsonable_python

from auxgrad.problems.data import Data
from auxgrad.problems.options import Flag, Section

if TYPE_CHECKING:
    import keras

    import auxgrad


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """A network with the initial weights of one seed, and how to train it.

    `Problem.build` returns it. Training minimises `loss` with the help of `auxiliary`. It stops after
    `patience` epochs without a strictly lower validation loss, or after `epochs`; the weights of the
    best epoch are restored and tested once.

    Attributes:
        network: Any Keras model, not compiled.
        auxiliary: `AuxiliaryLoss`, `WeightDecay`, or a dict of several by name.
        optimizer: Keras optimizer.
        loss: Primary loss, as `keras.Model.compile` takes it. It alone decides early stopping, and is
            recorded as val_loss and test_loss.
        batch_size: Number of examples in a training batch.
        epochs: Maximum number of epochs.
        patience: Number of epochs without a strictly lower validation loss before training stops.
        description: The network and its training in a few words, printed at the start of a run. If
            empty, a description is generated.
        metrics: Metrics, as `keras.Model.compile` takes them. Each is recorded as val_<name> after every
            epoch and as test_<name> once.
        loss_label: Name and unit of the loss for axis labels, such as "cross-entropy, nats".
        start: Start of the moving average, "zero" or "first", as for `AuxiliaryModel`.
        reshuffle: Whether the batches differ from epoch to epoch. Otherwise they are drawn once, by the
            seed.

    Examples:
        >>> import keras
        >>> from auxgrad import Training, WeightDecay
        >>> training = Training(
        ...     network=keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)]),
        ...     auxiliary=WeightDecay(),
        ...     optimizer=keras.optimizers.Adam(),
        ...     loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...     metrics=["accuracy"],
        ...     batch_size=32,
        ...     epochs=100,
        ...     patience=5,
        ... )
        >>> training.reshuffle
        True
    """

    network: keras.Model
    auxiliary: auxgrad.Auxiliary | Mapping[str, auxgrad.Auxiliary]
    optimizer: keras.optimizers.Optimizer
    loss: Any
    batch_size: int
    epochs: int
    patience: int
    description: str = ""
    metrics: Any = None
    loss_label: str = ""
    start: str = "zero"
    reshuffle: bool = True


class Named(Section):
    """Base of classes that a YAML file names by `_target_`; the fields are the options."""

    # Version of the code; None means that the hash of its source tells versions apart.
    version: ClassVar[int | str | None] = None

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(options_of(self), sort_keys=True)))


def options_of(named: Named) -> dict[str, Any]:
    """Return the options that can change a result, as JSON values: all without `Field(exclude=True)`."""
    return named.model_dump(mode="json", exclude={"data"})


def all_options_of(named: Named) -> dict[str, Any]:
    """Return all options as JSON values."""
    names = (name for name in type(named).model_fields if name != "data")
    return {name: to_jsonable_python(getattr(named, name)) for name in names}


class DataSource(Named):
    """Base class for a choice of data, `data=NAME` on the command line.

    Derive a class from it if a problem can use several data sets. Its fields are the options, typed and
    checked by pydantic. The problem has a field `data` of this class or of a base class of it, and its
    `load` reads the data from there. A file conf/data/NAME.yaml names the class, and its other keys set
    the options:

        _target_: digits.Folder
        path: images

    Attributes:
        version: Class attribute, as for `Problem`.

    Examples:
        >>> from auxgrad import DataSource
        >>> class Folder(DataSource):
        ...     path: str
        >>> Folder(path="images").path
        'images'
    """


class Problem(Named, ABC):
    """Base class of a problem: its data, and a network with its training for each seed.

    Derive a class from it, and define `load() -> Data` and `build(data, seed) -> Training`. The fields
    of the class are the options of the problem, typed and checked by pydantic. Declare an option that
    changes no result, such as the folder of a cache, with `pydantic.Field(exclude=True)`.

    A file conf/problem/NAME.yaml names the class, here `Digits` in digits.py, and its other keys set the
    options. Then `python -m auxgrad.train --config-dir conf problem=NAME` trains it:

        _target_: digits.Digits
        hidden: 64

    Attributes:
        tf32: Whether NVIDIA GPUs since Ampere multiply matrices in TF32, which is faster and has 10 bits
            of mantissa instead of 23.
        version: Class attribute. By default a finished run is run again after the source of the problem
            has changed, or that of a module beside it that it imports. If `version` is set, it takes the
            place of the source.
        uses_global_state: Class attribute. Whether `build` depends on the global state of Keras or
            TensorFlow, for example by a layer without a name or a seed. False makes short runs of a
            sweep faster; `build` must then name the optimizer and all layers, and seed everything that
            is random. TensorFlow keeps memory for each new name of a variable.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> import auxgrad
        >>> class Digits(auxgrad.Problem):
        ...     hidden: int = 64
        ...
        ...     def load(self):
        ...         x, y = np.zeros((30, 8), "float32"), np.zeros(30, "float32")
        ...         part = x[:10], y[:10]
        ...         return auxgrad.Data(train=part, validation=part, test=part)
        ...
        ...     def build(self, data, seed):
        ...         layers = [keras.layers.Dense(self.hidden, "relu"), keras.layers.Dense(10)]
        ...         return auxgrad.Training(
        ...             network=keras.Sequential([keras.Input((8,)), *layers]),
        ...             auxiliary=auxgrad.WeightDecay(),
        ...             optimizer=keras.optimizers.Adam(),
        ...             loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ...             batch_size=5,
        ...             epochs=100,
        ...             patience=5,
        ...         )
        >>> problem = Digits(hidden=16)
        >>> problem.build(problem.load(), seed=0).network.count_params()
        314
    """

    uses_global_state: ClassVar[bool] = True

    tf32: Flag = False

    @abstractmethod
    def load(self) -> Data:
        """Return the data of the problem.

        It is called once in a process for equal options, and must not depend on a seed.

        Returns:
            `Data` with the examples for training, validation and test.

        Raises:
            DataError: The data is missing or damaged.
        """

    @abstractmethod
    def build(self, data: Data, seed: int) -> Training:
        """Return a new network and how to train it.

        It is called once for each run. The global seed of Keras is set before, unless
        `uses_global_state` is False.

        Args:
            data: Result of `load`.
            seed: Whole number >= 0 that fixes the initial weights. Runs with one seed must start from
                the same weights in every mode.

        Returns:
            `Training` with a new network and a new optimizer.
        """
