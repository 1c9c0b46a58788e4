"""What a problem is: options, data, and for each seed a network with all that its training needs."""

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
    """A network of one seed, and how it is trained.

    Attributes:
        network: a Keras model.
        auxiliary: where the auxiliary directions come from: one, or a dict of several by name.
        optimizer, loss, metrics: as `keras.Model.compile` takes them. The loss alone decides early
            stopping; a metric is recorded as val_<name> after every epoch and as test_<name> once.
        batch_size: examples in a training batch.
        epochs: the most epochs.
        patience: epochs without a lower validation loss before training stops.
        start: how the moving average begins, as for `AuxiliaryModel`.
        reshuffle: whether every epoch has other batches; else they are drawn once, by the seed.
        description: the network and its training in a few words; empty: made from them.
        loss_label: what the loss is, and its unit, for axis labels, such as "cross-entropy, nats".
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
    """Options of a class that a YAML file names by `_target_`."""

    # Pins the version of the code; None: it is known by its source.
    version: ClassVar[int | str | None] = None

    def __hash__(self) -> int:
        return hash((type(self), json.dumps(options_of(self), sort_keys=True)))


def options_of(named: Named) -> dict[str, Any]:
    """Return what can change a result, as JSON takes it: no options with `Field(exclude=True)`."""
    return named.model_dump(mode="json", exclude={"data"})


def all_options_of(named: Named) -> dict[str, Any]:
    """Return all options as JSON takes them."""
    names = (name for name in type(named).model_fields if name != "data")
    return {name: to_jsonable_python(getattr(named, name)) for name in names}


class DataSource(Named):
    """A choice of data, named by `_target_` in a file conf/data/NAME.yaml; its fields are the options.

    The problem that takes it has a field `data` of this class, or of a base of it.
    """


class Problem(Named, ABC):
    """Data, and a network for each seed. Its fields are the keys of its YAML file, typed and checked.

    A file conf/problem/NAME.yaml names the class: `_target_: module.Class`. Options that change no
    result, such as the place of a cache, are declared with `pydantic.Field(exclude=True)`.

    Attributes:
        tf32: on NVIDIA GPUs since Ampere: matrix products in TF32, faster and with 10 bits of mantissa
            instead of 23.
        version: a class attribute. Finished runs count for as long as the source of the problem, and of
            the modules beside it that it imports, stays the same; a version takes its place.
        uses_global_state: a class attribute: whether `build` may depend on Keras' or TensorFlow's global
            state, such as a layer without a name or a seed. False makes short runs of a sweep faster;
            `build` must then give names to all layers, and seeds to all that is random.
    """

    uses_global_state: ClassVar[bool] = True

    tf32: Flag = False

    @abstractmethod
    def load(self) -> Data:
        """Return the data; called once in a process for equal options.

        Raises DataError if the data is missing or damaged.
        """

    @abstractmethod
    def build(self, data: Data, seed: int) -> Training:
        """Return a new network; the seed fixes its initial weights, in every mode alike.

        Keras' global seed is set before, unless `uses_global_state` is False.
        """
