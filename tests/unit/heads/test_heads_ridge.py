"""Ridge regression against scikit-learn and against leaving images out for real."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from regraft import heads
from regraft.errors import DataError
from regraft.heads import ridge


def make(n_images=60, width=12, n_outputs=2, *, noise=0.5, seed=0):
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((n_images, width)).astype(np.float32)
    weights = np.random.default_rng(1).standard_normal((width, n_outputs))
    numbers = features @ weights + noise * generator.standard_normal((n_images, n_outputs))
    return features, numbers * [10.0, 0.01][:n_outputs] + [500.0, -3.0][:n_outputs]


@pytest.mark.parametrize("strength", [10.0, 1e-2, 1e-5])
@pytest.mark.parametrize(("n_images", "width"), [(30, 100), (100, 30), (50, 50)])
def test_equals_scikit_learn(strength, n_images, width):
    """Fewer images than features: in the space of the rows; the oracle always directly."""
    features, numbers = make(n_images, width)
    head = ridge.fit(features, numbers, 2, strengths=(strength,)).head
    scaled = head.scaling(features)
    oracle = Ridge(alpha=strength * n_images, solver="svd").fit(scaled, numbers)
    np.testing.assert_allclose(head.logits(features), oracle.predict(scaled), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n_images", "width"), [(40, 100), (100, 30)])
def test_chooses_as_scikit_learn_does_for_each_number(n_images, width):
    features, numbers = make(n_images, width, noise=2.0)
    fitted = ridge.fit(features, numbers, 2)
    scaled = fitted.head.scaling(features)
    alphas = np.array(ridge.STRENGTHS) * n_images
    oracle = RidgeCV(alphas, alpha_per_target=True, store_cv_results=True).fit(scaled, numbers)
    np.testing.assert_allclose(np.array(fitted.chosen["strengths"]) * n_images, oracle.alpha_)
    rmse = np.sqrt(oracle.cv_results_.mean(axis=0)).T
    np.testing.assert_allclose([row["rmse"] for row in fitted.history], rmse, rtol=1e-3)


@pytest.mark.parametrize(("n_images", "width"), [(24, 60), (60, 8)])
def test_errors_are_those_of_fits_that_left_the_group_out(n_images, width):
    features, numbers = make(n_images, width)
    units = np.random.default_rng(3).integers(0, 9, n_images)
    centred = features - features.mean(axis=0)
    found = ridge.held_out_errors(centred, numbers, units, (0.5, 0.01))
    for strength, ours in zip((0.5, 0.01), found, strict=True):
        errors = np.empty_like(numbers)
        for unit in np.unique(units):
            out = units == unit
            model = Ridge(alpha=strength * n_images, solver="svd").fit(centred[~out], numbers[~out])
            errors[out] = model.predict(centred[out]) - numbers[out]
        np.testing.assert_allclose(ours, np.sqrt(np.square(errors).mean(axis=0)), rtol=1e-4)


def test_each_number_is_fitted_as_if_it_were_alone():
    features, numbers = make()
    both = ridge.fit(features, numbers, 2).head.logits(features)
    for column in range(2):
        alone = ridge.fit(features, numbers[:, column : column + 1], 1).head.logits(features)
        np.testing.assert_allclose(both[:, [column]], alone, rtol=1e-9)


def test_units_and_origins_do_not_matter():
    features, numbers = make()
    one = ridge.fit(features, numbers, 2).head.logits(features)
    other = ridge.fit(features * np.float32(32) + np.float32(64), numbers * -7 + 3, 2).head
    np.testing.assert_allclose(other.logits(features * np.float32(32) + np.float32(64)), one * -7 + 3, rtol=1e-4)


def test_copies_in_a_group_do_not_make_the_fit_bold():
    """Left out one by one, each noisy image would be told by its copy."""
    features, numbers = make(40, 60, 1, noise=20.0)
    twice, same = np.tile(features, (2, 1)), np.tile(numbers, (2, 1))
    bold = ridge.fit(twice, same, 1).chosen["strengths"][0]
    careful = ridge.fit(twice, same, 1, groups=np.tile(np.arange(40).astype(str), 2)).chosen["strengths"][0]
    assert careful >= 100 * bold


@pytest.mark.parametrize("blocks", [(), (5, 7)])
def test_each_number_is_learnt_from_the_images_of_which_it_is_known(blocks):
    features, numbers = make(n_outputs=2)
    numbers = np.column_stack([numbers, numbers[:, :1] * 2])
    numbers[3:40:2, 0] = np.nan
    numbers[3, 1] = np.nan
    numbers[3:40:2, 2] = np.nan
    fitted = ridge.fit(features, numbers, 3, names=("x", "y", "z"), blocks=blocks)
    for column in range(3):
        kept = np.isfinite(numbers[:, column])
        alone = ridge.fit(features[kept], numbers[kept, column : column + 1], 1, blocks=blocks)
        np.testing.assert_allclose(fitted.head.logits(features)[:, [column]], alone.head.logits(features), rtol=1e-9)
        assert fitted.chosen["strengths"][column] == alone.chosen["strengths"][0]
        assert fitted.chosen["images"][column] == kept.sum()
        rmse = [row["rmse"][column] for row in fitted.history]
        np.testing.assert_allclose(rmse, [row["rmse"][0] for row in alone.history])
    assert fitted.notes == []


def test_one_group_and_one_value():
    features, _ = make()
    fitted = ridge.fit(features, np.full((60, 1), 4.0), 1, names=("x",), groups=np.full(60, "g"))
    np.testing.assert_allclose(fitted.head.logits(features), 4.0)
    assert "x is the same number in every training image" in fitted.notes
    assert "all training images are one group" in fitted.notes[1]


def test_many_rows_choose_on_a_part(monkeypatch):
    monkeypatch.setattr(ridge, "_TRIAL_ROWS", 50)
    features, numbers = make(200)
    fitted = ridge.fit(features, numbers, 2)
    assert "strengths were chosen on 50 of the 200 training images" in fitted.notes
    assert np.corrcoef(fitted.head.logits(features)[:, 0], numbers[:, 0])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (np.full((60, 1), np.nan), "0 images with a number"),
        (np.full((60, 1), np.inf), "infinite"),
        (np.ones((60, 2)), "1 targets"),
    ],
)
def test_what_cannot_be_learnt(numbers, said):
    with pytest.raises(DataError, match=said):
        ridge.fit(make()[0], numbers, 1)


def test_saved_and_loaded_it_is_the_same():
    features, numbers = make()
    head = ridge.fit(features, numbers, 2, blocks=(5, 7)).head
    again = heads.load("ridge", head.arrays(), head.settings())
    np.testing.assert_array_equal(again.logits(features), head.logits(features))
