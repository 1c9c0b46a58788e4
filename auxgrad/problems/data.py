"""The examples of a problem, their numbers and their fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from auxgrad.errors import DataError

PARTS = ("train", "validation", "test")

Part = tuple[Any, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """The examples of a problem for training, validation and test.

    A part is a pair (x, y) of inputs and targets. Both are NumPy arrays, SciPy sparse matrices, or
    nested dicts and tuples of these, with one example in each row. A part that does not fit into memory
    is a `tf.data.Dataset` of single examples (x, y); then give its size and a fingerprint. Shuffling,
    batches and prefetching are done by the package.

    Attributes:
        train: Examples for training.
        validation: Examples for the validation loss, which decides early stopping.
        test: Examples for the test loss, which is computed once.
        name: Name of the data set; if empty, the name of the problem.
        fingerprint: Text that changes with the content; if empty, the SHA-256 of all arrays. Finished
            runs are recognised by it.
        sizes: Number of examples of each part, by its name. Give it for each `tf.data.Dataset`; the
            others are counted.
        examples: What an example is, in the plural, such as "images".
        details: Further information to record with a run, a dict of JSON values.
        auxiliary: Training examples (x, y) of auxiliary losses with their own data, by the name of the
            loss. Each step takes a batch of them, as large as the batch of `train`.
        shuffle_buffer: Number of examples of a `tf.data.Dataset` from which the next one is drawn in
            training.

    Raises:
        DataError: A part is not a pair, is empty, has arrays of different lengths, or has numbers that
            are not finite; or a `tf.data.Dataset` has no size or no fingerprint.

    Examples:
        >>> import numpy as np
        >>> x, y = np.zeros((6, 2)), np.zeros(6)
        >>> data = Data(train=(x[:4], y[:4]), validation=(x[4:5], y[4:5]), test=(x[5:], y[5:]))
        >>> data.sizes
        {'train': 4, 'validation': 1, 'test': 1}
        >>> Data(train=(x[:3], y), validation=(x, y), test=(x, y))
        Traceback (most recent call last):
        auxgrad.errors.DataError: Data: train has arrays of 3 and 6 rows; their numbers must be equal
    """

    train: Any
    validation: Any
    test: Any
    name: str = ""
    fingerprint: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)
    examples: str = "examples"
    details: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: Mapping[str, Any] = field(default_factory=dict)
    shuffle_buffer: int = 10_000

    def __post_init__(self) -> None:
        sizes = {part: self._size(part, content) for part, content in self._contents.items()}
        object.__setattr__(self, "sizes", sizes)
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self._digest())

    @property
    def _contents(self) -> dict[str, Any]:
        own = {f"auxiliary {name}": content for name, content in self.auxiliary.items()}
        return {part: getattr(self, part) for part in PARTS} | own

    def _size(self, part: str, content: Any) -> int:
        if is_stream(content):
            if not self.fingerprint:
                raise DataError(f"Data: {part} is a tf.data.Dataset; fingerprint= must be given")
            if part not in self.sizes:
                raise DataError(f"Data: {part} is a tf.data.Dataset; sizes= must have {part!r}")
            size = self.sizes[part]
            if not isinstance(size, int) or size < 1:
                raise DataError(f"Data: sizes[{part!r}] is {size!r}; must be a whole number >= 1")
            return size
        if not isinstance(content, tuple) or len(content) != 2:
            raise DataError(f"Data: {part} is {type(content).__name__}; must be a pair (x, y)")
        if part in self.sizes:
            raise DataError(f"Data: sizes has {part!r}, which is not a tf.data.Dataset")
        rows = []
        for place, array in leaves(content):
            if not getattr(array, "shape", ()):
                kind = type(array).__name__
                raise DataError(f"Data: {part}{place} is {kind}; must be an array of examples")
            rows.append(int(array.shape[0]))
            _check_finite(f"{part}{place}", array)
        if len(set(rows)) != 1:
            lengths = " and ".join(str(length) for length in dict.fromkeys(rows))
            raise DataError(f"Data: {part} has arrays of {lengths} rows; their numbers must be equal")
        if rows[0] == 0:
            raise DataError(f"Data: {part} has no examples")
        return rows[0]

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for part, content in self._contents.items():
            for place, array in leaves(content):
                digest.update(f"{part}{place}".encode())
                for kind, raw in _contents(array):
                    digest.update(kind.encode())
                    digest.update(raw)
        return digest.hexdigest()


def is_stream(part: Any) -> bool:
    """Return whether a part is a `tf.data.Dataset`."""
    return hasattr(part, "element_spec")


def leaves(structure: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays of nested dicts, tuples and lists, each with its place, such as [0]['image']."""
    if isinstance(structure, dict):
        for key in sorted(structure, key=str):
            yield from leaves(structure[key], f"{place}[{key!r}]")
    elif isinstance(structure, tuple | list):
        for i, item in enumerate(structure):
            yield from leaves(item, f"{place}[{i}]")
    else:
        yield place, structure


def _check_finite(place: str, array: Any) -> None:
    """Raise DataError with the index of the first number of an array that is not finite, if any."""
    import numpy as np
    import scipy.sparse

    sparse = scipy.sparse.csr_array(array) if scipy.sparse.issparse(array) else None
    values = np.asarray(array) if sparse is None else sparse.data
    if values.dtype.kind not in "fc":
        return
    with np.errstate(all="ignore"):
        total = values.sum()  # A single pass that needs no second array of this size.
    if np.isfinite(total):
        return
    for index in np.argwhere(~np.isfinite(values))[:1]:
        value = values[tuple(index)]
        if sparse is not None:
            index = [axis[index[0]] for axis in sparse.tocoo().coords]
        found = f"{value} at {[int(i) for i in index]}"
        raise DataError(f"Data: {place} has {found}; must be finite numbers")


def _contents(array: Any) -> Iterator[tuple[str, Any]]:
    """Yield the type and shape of an array as text, and its bytes; a sparse array has several parts."""
    import numpy as np
    import scipy.sparse

    if scipy.sparse.issparse(array):
        sparse = scipy.sparse.csr_array(array)
        yield str(sparse.shape), b""
        parts = [sparse.data, sparse.indices.astype(np.int64), sparse.indptr.astype(np.int64)]
    else:
        parts = [np.asarray(array)]
    for part in parts:
        if part.dtype.hasobject:
            texts = [
                item.encode(errors="surrogatepass") if isinstance(item, str) else item
                for item in part.ravel()
            ]
            if not all(isinstance(text, bytes) for text in texts):
                raise DataError("Data: an array of Python objects; must be numbers or texts")
            yield f"texts {part.shape} {[len(text) for text in texts]}", b"".join(texts)
        else:
            yield f"{part.dtype.str} {part.shape}", np.ascontiguousarray(part).view(np.uint8).data
