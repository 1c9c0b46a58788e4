"""Handwritten digits, from few images."""

from __future__ import annotations

import numpy as np
import pytest

import auxgrad
from auxgrad.problems.optdigits import OptDigits


def test_the_parts_are_what_they_were():
    data = OptDigits().load()
    assert data.sizes == {"train": 200, "validation": 500, "test": 897}
    assert (
        data.fingerprint
        == OptDigits().load().fingerprint
        != OptDigits(train_size=100).load().fingerprint
    )
    x, y = data.test
    assert x.min() == 0
    assert x.max() == 1
    np.testing.assert_array_equal(y["odd"], y["digit"] % 2)
    np.testing.assert_array_equal(y["large"], y["digit"] // 5)
    # No image belongs to two parts.
    images = np.concatenate([part[0] for part in (data.train, data.validation, data.test)])
    assert len(np.unique(images, axis=0)) == len(images)


@pytest.mark.process
def test_the_digits_are_learnt(in_tmp):
    result = auxgrad.run(["problem=optdigits", "mode=UPGrad", "lam=0.3", "overall=true"])
    assert result.test_metrics["digit_accuracy"] > 0.85
    assert 10 < result.epochs < 1000
