"""The identity of a run: its keys, names and parameters."""

from __future__ import annotations

import pytest

from auxgrad.config import Identity, compose


def test_the_key_holds_all_that_determines_a_result_and_nothing_else():
    def key(*overrides, fingerprint="f"):
        return compose(overrides).identity(fingerprint).key

    base = key()
    for changed in ("mode=Orthogonal", "lam=3", "alpha=1", "overall=true", "seed=1"):
        assert key(changed) != base
    for changed in ("problem.epochs=3", "problem.hidden=[8]", "data.num_words=99", "data=imdb"):
        assert key(changed) != base
    assert key(fingerprint="g") != base
    for other in ("tracking.uri=sqlite:///x.db", "tracking.experiment=y", "data.cache_dir=/tmp/c"):
        assert key(other, "force=true", "retries=3", "fail_fast=true", "tracking.log_model=true") == base
    assert key("lam=100.0", "alpha=1e-2") == base
    assert key("mode=SingleTask") == key("lam=0") == key("mode=Multitask", "lam=0", "alpha=1")
    assert compose(["seed=1"]).identity("f").setting_key == compose().identity("f").setting_key
    assert compose(["lam=1"]).identity("f").setting_key != compose().identity("f").setting_key


def test_an_identity_survives_json():
    identity = compose(["mode=Orthogonal", "lam=0.1", "problem.hidden=[8,4]"]).identity("f")
    again = Identity.from_json(identity.to_json())
    assert again == identity
    assert (again.key, again.name, again.params) == (identity.key, identity.name, identity.params)
    for wrong in ("{}", '{"mode": 1, "what": 2}', "text"):
        with pytest.raises(ValueError, match=r"KeyError|argument|Expecting"):
            Identity.from_json(wrong)


def test_names_tell_what_differs_from_the_presets():
    identity = compose(["mode=Projection", "lam=30", "problem.hidden=[8]", "data=imdb"]).identity("f")
    assert identity.setting_name == "Projection lam=30 alpha=0.01 data=imdb problem.hidden=[8]"
    assert identity.study_name == "problem=reviews data=imdb problem.hidden=[8]"
    assert Identity.from_json(identity.to_json()).setting_name == identity.setting_name
    changed = compose(["problem.hidden=[8]", "problem.batch_size=4", "data.num_words=60"]).identity("f")
    assert Identity.from_json(changed.to_json()).study_name == changed.study_name
    assert compose(["mode=SingleTask"]).identity().name == "SingleTask seed=0"
    assert compose(["overall=true", "lam=0.5"]).identity().name == (
        "Projection lam=0.5 alpha=0.01 overall=true seed=0"
    )
    assert identity.params == {
        "mode": "Projection",
        "lam": "30",
        "alpha": "0.01",
        "overall": "false",
        "seed": "0",
        "data": "imdb",
        "problem": "reviews",
        "config": identity.setting_name,
    }


def test_studies_differ_in_problem_data_and_method_only():
    def study(*overrides, fingerprint="f"):
        return compose(overrides).identity(fingerprint).study_key

    assert study("mode=SingleTask", "seed=3") == study("lam=3", "alpha=1")
    assert len({study(), study("problem.epochs=3"), study("data=imdb"), study(fingerprint="g")}) == 4
