"""The examples of a problem: what they consist of, how many there are, and their fingerprint."""

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
    """The examples of a problem.

    Each part is (x, y). Both are NumPy arrays, SciPy sparse matrices, or nested dicts and tuples of
    them, with an example in each row. A part that does not fit into memory is a `tf.data.Dataset` of
    single examples (x, y) instead; its size and a fingerprint must then be given.

    Attributes:
        train, validation, test: the parts.
        name: the data set; empty: the name of the problem.
        fingerprint: what changes with the content; empty: the SHA-256 of all arrays.
        sizes: the number of examples of each part; given for each that is a `tf.data.Dataset`.
        examples: what an example is, in the plural.
        details: what else goes on record, as JSON.
        auxiliary: training examples (x, y) of auxiliary losses that have data of their own, by the
            name of the loss; each step takes a batch of each, as large as that of `train`.
        shuffle_buffer: from how many examples of a `tf.data.Dataset` the next one is drawn in training.

    Raises:
        DataError: a part is no pair, is empty, has arrays of different lengths, or has numbers that are
            not finite; or a size or the fingerprint of a `tf.data.Dataset` is missing.

    >>> import numpy as np
    >>> x, y = np.zeros((6, 2)), np.zeros(6)
    >>> data = Data(train=(x[:4], y[:4]), validation=(x[4:5], y[4:5]), test=(x[5:], y[5:]))
    >>> data.sizes
    {'train': 4, 'validation': 1, 'test': 1}
    >>> Data(train=(x[:3], y), validation=(x, y), test=(x, y))
    Traceback (most recent call last):
    auxgrad.errors.DataError: Data: train has arrays of 3 and 6 rows; must be equally many
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
            raise DataError(f"Data: sizes has {part!r}, which is no tf.data.Dataset")
        rows = []
        for place, array in leaves(content):
            if not getattr(array, "shape", ()):
                kind = type(array).__name__
                raise DataError(f"Data: {part}{place} is {kind}; must be an array of examples")
            rows.append(int(array.shape[0]))
            _check_finite(f"{part}{place}", array)
        if len(set(rows)) != 1:
            lengths = " and ".join(str(length) for length in dict.fromkeys(rows))
            raise DataError(f"Data: {part} has arrays of {lengths} rows; must be equally many")
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
    """Raise DataError if numbers of an array are not finite, with the index of the first."""
    import numpy as np
    import scipy.sparse

    sparse = scipy.sparse.csr_array(array) if scipy.sparse.issparse(array) else None
    values = np.asarray(array) if sparse is None else sparse.data
    if values.dtype.kind not in "fc":
        return
    with np.errstate(all="ignore"):
        total = values.sum()  # One pass, without an array as large.
    if np.isfinite(total):
        return
    for index in np.argwhere(~np.isfinite(values))[:1]:
        value = values[tuple(index)]
        if sparse is not None:
            index = [axis[index[0]] for axis in sparse.tocoo().coords]
        found = f"{value} at {[int(i) for i in index]}"
        raise DataError(f"Data: {place} has {found}; must be finite numbers")


def _contents(array: Any) -> Iterator[tuple[str, Any]]:
    """Type and shape of an array as text, and its bytes; several of them for a sparse one."""
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
