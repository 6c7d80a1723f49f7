"""What every head promises, whatever its method."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load, save

from regraft import heads
from regraft.errors import BundleError, DataError, OptionError
from regraft.heads.head import log_softmax

NO_MEMORY = {"naive-bayes", "linear-probe", "svm-linear", "lda", "nearest-mean"}
every_head = pytest.mark.parametrize("name", heads.NAMES)


def fit(name, data, **options):
    return heads.fit(name, data.X, data.y, data.k, **options)


@every_head
@pytest.mark.parametrize("n_classes", [2, 3])
def test_learns_and_gives_one_logit_a_class(name, n_classes, clouds):
    data = clouds(n_images=80, n_classes=n_classes)
    fitted = fit(name, data)
    logits = fitted.head.logits(data.X)
    assert logits.shape == (80, n_classes)
    assert logits.dtype == np.float64
    assert (logits.argmax(axis=1) == data.y).mean() > 0.95
    assert fitted.chosen["log_loss"] == min(row["log_loss"] for row in fitted.history)
    assert fitted.chosen["folds"] == 5
    json.dumps([fitted.history, fitted.chosen, fitted.notes])


@every_head
def test_probabilities_are_held_out_honest(name, clouds):
    """Where classes overlap, the mean confidence on new images is about the accuracy on them."""
    data, fresh = clouds(300, 6, apart=0.7, where=3), clouds(1500, 6, apart=0.7, where=3, seed=1)
    logits = fit(name, data).head.logits(fresh.X)
    confidence = np.exp(log_softmax(logits)).max(axis=1).mean()
    assert confidence == pytest.approx((logits.argmax(axis=1) == fresh.y).mean(), abs=0.08)


@every_head
def test_saved_and_loaded_gives_the_same_bits(name, three):
    head = fit(name, three).head
    arrays, settings = head.arrays(), head.settings()
    assert all(array.flags.c_contiguous for array in arrays.values())
    assert {str(array.dtype) for array in arrays.values()} <= {"float32", "float64", "int64"}
    again = heads.load(head.name, load(save(arrays)), json.loads(json.dumps(settings)))
    assert again.name == head.name
    assert np.array_equal(again.logits(three.X), head.logits(three.X))
    assert np.array_equal(heads.load(name, load(save(arrays)), settings).logits(three.X), head.logits(three.X))


@every_head
def test_same_seed_same_head(name, three):
    first, second = fit(name, three, seed=7), fit(name, three, seed=7)
    assert np.array_equal(first.head.logits(three.X), second.head.logits(three.X))
    assert first.history == second.history


@every_head
def test_renaming_classes_permutes_logits(name, three):
    new_name = np.array([2, 0, 1])
    plain = fit(name, three).head.logits(three.X)
    renamed = heads.fit(name, three.X, new_name[three.y], 3).head.logits(three.X)
    if name == "mlp":  # its arithmetic is in float32 and goes on for many steps, so only decisions are the same
        assert (new_name[plain.argmax(axis=1)] == renamed.argmax(axis=1)).mean() > 0.97
    else:
        np.testing.assert_allclose(log_softmax(renamed[:, new_name]), log_softmax(plain), atol=2e-3)


@every_head
def test_a_class_without_images_is_never_predicted_but_finite(name, two):
    fitted = heads.fit(name, two.X, two.y * 3, 5, classes=["a", "b", "c", "d", "e"])
    logits = fitted.head.logits(np.concatenate([two.X, two.X * 100]))
    assert logits.shape == (120, 5)
    assert np.isfinite(logits).all()
    assert set(logits.argmax(axis=1)) == {0, 3}
    assert log_softmax(logits)[:, [1, 2, 4]].max() < -50
    assert "classes 'b', 'c', 'e': no training image, never predicted" in fitted.notes


@every_head
def test_a_class_of_one_image_has_no_say_and_is_named(name, three):
    features = np.concatenate([three.X, np.full((1, 12), 9, np.float32)])
    fitted = heads.fit(name, features, np.append(three.y, 3), 4, classes=["a", "b", "c", "rare"])
    assert any(note.startswith("class 'rare': one training image") for note in fitted.notes)
    assert fitted.chosen["images"] == 90
    assert np.isfinite(fitted.head.logits(features)).all()


@every_head
def test_one_image_a_class_is_assumed_not_chosen(name):
    features = np.eye(3, 8, dtype=np.float32)
    fitted = heads.fit(name, features, np.arange(3), 3)
    assert fitted.history == []
    assert fitted.chosen["by"] == "assumed: nothing could be held out"
    assert any("assumed" in note for note in fitted.notes)
    if name != "mlp":  # three gradient steps' worth of data teach it nothing for sure
        assert np.array_equal(fitted.head.logits(features).argmax(axis=1), np.arange(3))


@every_head
def test_odd_features_give_finite_logits(name, clouds):
    data = clouds(40, 6, 2)
    constant = data.X.copy()
    constant[:, 1:] = 3
    odd = {
        "one feature": data.X[:, :1],
        "constant features": constant,
        "all constant": np.ones_like(data.X),
        "all zero": np.zeros_like(data.X),
        "large": data.X * np.float32(1e30),
        "small": data.X * np.float32(1e-30),
        "far from zero": data.X + np.float32(1e6),
        "double precision": data.X.astype(np.float64),
        "each twice": np.repeat(data.X[:20], 2, axis=0),
    }
    for case, features in odd.items():
        logits = heads.fit(name, features, data.y, 2).head.logits(features)
        assert np.isfinite(logits).all(), case


@every_head
def test_two_images_a_class(name):
    generator = np.random.default_rng(0)
    targets = np.arange(10) % 5
    features = (np.eye(5, 30)[targets] * 9 + generator.standard_normal((10, 30))).astype(np.float32)
    fitted = heads.fit(name, features, targets, 5)
    assert fitted.chosen["folds"] == 2
    assert np.isfinite(fitted.head.logits(features)).all()


@every_head
def test_groups_are_respected(name, three):
    """Copies of one picture in a group: held out together, so that memory does not look like skill."""
    generator = np.random.default_rng(0)
    noise = np.repeat(generator.standard_normal((15, 12)), 4, axis=0).astype(np.float32)
    targets = np.repeat(generator.permutation(np.arange(15) % 2), 4)
    naive = heads.fit(name, noise, targets, 2)
    honest = heads.fit(name, noise, targets, 2, groups=np.repeat(np.arange(15), 4))
    assert naive.chosen["accuracy"] > 0.95 or name in NO_MEMORY
    assert honest.chosen["accuracy"] < 0.75
    assert honest.chosen["log_loss"] > naive.chosen["log_loss"]


@every_head
def test_no_image_no_logit_and_one_image_as_among_many(name, three):
    head = fit(name, three).head
    assert head.logits(three.X[:0]).shape == (0, 3)
    np.testing.assert_allclose(head.logits(three.X[:1]), head.logits(three.X)[:1], rtol=1e-6, atol=1e-6)


@every_head
def test_features_that_are_not_numbers_are_counted(name, three):
    head = fit(name, three).head
    broken = three.X.copy()
    broken[[3, 5], 0] = [np.nan, np.inf]
    with pytest.raises(DataError, match="2 of 90 rows"):
        heads.fit(name, broken, three.y, 3)
    with pytest.raises(DataError, match="2 of 90 rows"):
        head.logits(broken)
    with pytest.raises(DataError, match="11 wide, but this head was fitted on 12"):
        head.logits(three.X[:, 1:])


@every_head
def test_prepared_rows_give_the_same_head_to_the_last_digit(name, clouds):
    data = clouds(60, 150, 3, apart=0.2)
    ready = heads.prepare(data.X, data.y, 3, seed=4)
    for other in heads.NAMES:  # whatever others have left behind
        heads.fit(other, data.X, data.y, 3, seed=4, prepared=ready)
    shared, alone = fit(name, data, seed=4, prepared=ready), fit(name, data, seed=4)
    assert shared.history == alone.history
    assert shared.chosen == alone.chosen
    assert np.array_equal(shared.head.logits(data.X), alone.head.logits(data.X))


@every_head
@pytest.mark.parametrize("n_images", [60, 200])
def test_the_unit_of_a_block_does_not_matter(name, n_images, clouds):
    data = clouds(n_images, 90, 3, apart=0.2)
    louder = data.X * np.repeat(np.float32([1, 1000, 1e-3]), [20, 40, 30])
    one, other = (heads.fit(name, features, data.y, 3, blocks=(20, 40, 30)) for features in (data.X, louder))
    assert one.chosen["log_loss"] == pytest.approx(other.chosen["log_loss"], abs=2e-3)
    plain, moved = log_softmax(one.head.logits(data.X)), log_softmax(other.head.logits(louder))
    # Rounding to float32 is seen by what is fitted step by step.
    np.testing.assert_allclose(np.exp(plain), np.exp(moved), atol=0.02 if name == "mlp" else 2e-3)


@every_head
def test_one_block_is_no_blocks(name, three):
    one, none = fit(name, three, blocks=(12,)), fit(name, three)
    assert one.history == none.history
    assert one.head.settings() == none.head.settings()
    assert np.array_equal(one.head.logits(three.X), none.head.logits(three.X))


@every_head
def test_with_blocks_saved_and_loaded_gives_the_same_bits(name, three):
    head = fit(name, three, blocks=(5, 7)).head
    again = heads.load(head.name, load(save(head.arrays())), json.loads(json.dumps(head.settings())))
    assert np.array_equal(again.logits(three.X), head.logits(three.X))


@pytest.mark.parametrize("blocks", [(5, 6), (12, 0), (13, -1), (6.5, 5.5)])
def test_blocks_that_are_not_the_columns_are_explained(blocks, three):
    with pytest.raises(DataError, match="do not make up features of 12"):
        fit("knn", three, blocks=blocks)


def test_rows_prepared_for_something_else_are_refused(three):
    ready = heads.prepare(three.X, three.y, 3)
    with pytest.raises(ValueError, match="prepared"):
        fit("knn", three, seed=1, prepared=ready)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 0, 0, 0], "images of 1 class of 2"),
        ([0, 1, 2, 0], "from 0 to 2"),
        ([0, 1, -1, 0], "from -1 to 1"),
        ([0, 1, 0], "labels of shape"),
        ([0.0, 1.0, 0.0, 1.0], "whole numbers"),
    ],
)
def test_wrong_labels_are_explained(targets, message):
    with pytest.raises(DataError, match=message):
        heads.fit("naive-bayes", np.ones((4, 2), np.float32), np.array(targets), 2)


def test_wrong_shapes_are_explained():
    with pytest.raises(DataError, match="0 classes of 2"):
        heads.fit("knn", np.ones((0, 2), np.float32), np.zeros(0, int), 2)
    with pytest.raises(DataError, match="no columns"):
        heads.fit("knn", np.ones((4, 0), np.float32), np.array([0, 1, 0, 1]), 2)
    with pytest.raises(DataError, match="a matrix of real numbers"):
        heads.fit("knn", np.array([["a"], ["b"]]), np.array([0, 1]), 2)
    with pytest.raises(DataError, match="beyond float32"):
        heads.fit("knn", np.array([[1e300], [1.0]]), np.array([0, 1]), 2)
    with pytest.raises(DataError, match="3 groups"):
        heads.fit("knn", np.ones((2, 1)), np.array([0, 1]), 2, groups=np.arange(3))


def test_unknown_names_and_parts_are_explained():
    with pytest.raises(OptionError, match="no head 'svn'; choose one of linear-probe, svm"):
        heads.fit("svn", np.eye(2, dtype=np.float32), np.arange(2), 2)
    with pytest.raises(BundleError, match="saved knn head") as caught:
        heads.load("knn", {}, {})
    assert "argument" not in str(caught.value)


def test_prediction_needs_neither_scipy_nor_scikit_learn(three, tmp_path):
    fitted = {name: fit(name, three).head for name in ("linear-probe", "svm-rbf", "naive-bayes", "knn", "mlp", "lda")}
    for name, head in fitted.items():
        (tmp_path / f"{name}.safetensors").write_bytes(save(head.arrays()))
        (tmp_path / f"{name}.json").write_text(json.dumps(head.settings()))
    script = """
import json, pathlib, sys
import numpy as np
from regraft import heads
from safetensors.numpy import load_file
for file in pathlib.Path(sys.argv[1]).glob("*.json"):
    head = heads.load(file.stem, load_file(file.with_suffix(".safetensors")), json.loads(file.read_text()))
    assert head.logits(np.ones((2, 12), np.float32)).shape == (2, 3)
print(sorted({name.split(".")[0] for name in sys.modules} & {"scipy", "sklearn", "joblib", "threadpoolctl", "torch"}))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
