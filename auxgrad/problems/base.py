"""What a problem is: data, and for each seed a network with all that its training needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import keras

    from auxgrad.training.auxiliaries import Auxiliary

Part = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Data:
    """The examples of a problem.

    Each part is (x, y): arrays, SciPy sparse arrays, or nested dicts and tuples of them, with an example
    in each row.

    Attributes:
        name: the data set.
        fingerprint: the SHA-256 of the content.
        train, validation, test: the parts.
        examples: what an example is, in the plural.
        details: what else goes on record, as JSON.
    """

    name: str
    fingerprint: str
    train: Part
    validation: Part
    test: Part
    examples: str = "examples"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """The number of examples of each part."""
        return {part: _rows(getattr(self, part)) for part in ("train", "validation", "test")}


def _rows(part: Any) -> int:
    while isinstance(part, dict | tuple | list):
        part = next(iter(part.values() if isinstance(part, dict) else part))
    return int(part.shape[0])


@dataclass(frozen=True, eq=False)
class Training:
    """A network of one seed, and how it is trained.

    Attributes:
        network: a Keras model.
        auxiliary: where the auxiliary direction comes from.
        optimizer, loss, metrics: as `keras.Model.compile` takes them. The loss alone decides early
            stopping; a metric is recorded as val_<name> after every epoch and as test_<name> once.
        batch_size: examples in a training batch.
        epochs: the most epochs.
        patience: epochs without a lower validation loss before training stops.
        description: the network and its training in a few words.
        loss_label: what the loss is, and its unit, for axis labels, such as "cross-entropy, nats".
    """

    network: keras.Model
    auxiliary: Auxiliary
    optimizer: keras.optimizers.Optimizer
    loss: Any
    batch_size: int
    epochs: int
    patience: int
    description: str
    metrics: Sequence[Any] = ()
    loss_label: str = ""


class Problem(ABC):
    """A source of data and networks. Must be importable without TensorFlow.

    Attributes:
        uses_global_state: whether `build` may depend on Keras' or TensorFlow's global state, such as a
            layer without a name or a seed. False makes short runs of a sweep faster; `build` must then
            give names to all layers, and seeds to all that is random.
    """

    uses_global_state: ClassVar[bool] = True

    @abstractmethod
    def load(self, say: Callable[[str], None]) -> Data:
        """Return the data; `say` is called with a line before work that takes seconds.

        Raises DataError if the data is missing, damaged or cannot be cached.
        """

    @abstractmethod
    def build(self, data: Data, seed: int) -> Training:
        """Return a new network; the seed fixes its initial weights, in every mode alike."""
