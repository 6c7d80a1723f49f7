"""Calibrated heads: saved and loaded as any head, better on new images, honest on the images they learnt from."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from regraft import heads
from regraft.errors import BundleError
from regraft.heads.calibrated import calibrate, corrected, held_out_logits
from regraft.heads.folds import make_folds
from regraft.heads.head import log_softmax
from regraft.heads.linear_probe import LinearProbe
from regraft.heads.scaling import Scaling


def identity(n_classes, scale=1.0):
    """A head whose logits are its features, times `scale`."""
    scaling = Scaling(np.zeros(n_classes), np.ones(n_classes))
    return LinearProbe(scaling, np.eye(n_classes) * scale, np.zeros(n_classes), np.arange(n_classes), n_classes)


def drawn(n_images, n_classes=4, seed=0):
    """Features that are the true logits of their targets."""
    generator = np.random.default_rng(seed)
    known = (generator.normal(size=(n_images, n_classes)) * 2).astype(np.float32)
    return known, (known + generator.gumbel(size=known.shape)).argmax(axis=1)


def loss(logits, y):
    return -log_softmax(logits)[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("method", ["temperature", "isotonic", "auto"])
def test_an_overconfident_head_is_corrected(method):
    (known, y), (fresh, truth) = drawn(3000), drawn(3000, seed=1)
    head = identity(4, scale=4.0)
    found = calibrate(head, head.logits(known), y, method)
    assert found.method == ("isotonic" if method == "isotonic" else "temperature")
    before, after, best = (loss(h, truth) for h in (head.logits(fresh), found.head.logits(fresh), fresh))
    assert after - best < 0.05 * (before - best)
    if method != "isotonic":
        assert found.temperature == pytest.approx(4, rel=0.1)
        assert (found.head.logits(fresh).argmax(axis=1) == fresh.argmax(axis=1)).all()


def test_auto_leaves_what_is_right_and_none_leaves_all():
    head = identity(4)
    kept = [calibrate(head, *pair, "auto").method for pair in (drawn(300, seed=s) for s in range(20))]
    assert kept.count("none") >= 18  # a test at 1 %
    sure = identity(4, 9.0)
    known, y = drawn(300)
    assert calibrate(sure, sure.logits(known), y, "none").head is sure


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_saved_and_loaded_gives_the_same_bits(method, three):
    inner = heads.fit("svm-rbf", three.X, three.y, three.k).head
    head = calibrate(inner, inner.logits(three.X), three.y, method).head
    arrays, settings = load(save(head.arrays())), json.loads(json.dumps(head.settings()))
    again = heads.load(head.name, arrays, settings)
    assert np.array_equal(again.logits(three.X), head.logits(three.X))
    assert head.name in heads.LOADED
    assert head.name not in heads.NAMES  # nobody asks for it by name


@pytest.mark.parametrize("broken", [{"inner": "svm"}, {"inner": {"name": "svm"}}, {}])
def test_what_is_no_calibrated_head_is_refused(broken):
    with pytest.raises(BundleError, match="calibrated"):
        heads.load("calibrated", {}, {"temperature": 1.0, "n_classes": 2, **broken})


def test_steps_are_judged_on_images_that_they_were_not_learnt_from():
    generator = np.random.default_rng(0)
    logits, y = generator.normal(size=(200, 3)), generator.integers(0, 3, 200)  # nothing to learn
    found = calibrate(identity(3), logits, y, "isotonic")
    in_sample = loss(found.head.logits(logits.astype(np.float32)), y)
    assert in_sample < np.log(3) - 0.01
    assert loss(found.logits, y) > np.log(3) - 0.01


def test_a_class_that_was_never_seen_stays_last_and_finite():
    logits = np.array([[2.0, 1.0, -900.0], [0.5, 1.0, -900.0]] * 20)
    y = np.array([0, 1] * 20)
    found = calibrate(identity(3), logits, y, "isotonic")
    again = found.head.logits(logits.astype(np.float32))
    assert np.isfinite(again).all()
    assert (again.argmin(axis=1) == 2).all()
    assert np.isfinite(corrected(logits, 1.0, None)).all()


def test_held_out_logits_are_of_heads_that_had_not_learnt_from_the_image(clouds):
    data = clouds(n_images=60, n_classes=3, apart=0.3)
    rows, logits = held_out_logits("nearest-mean", data.X, data.y, 3, seed=4)
    assert rows.tolist() == list(range(60))
    learn, out = next(iter(make_folds(data.y, seed=4)))
    expected = heads.fit("nearest-mean", data.X[learn], data.y[learn], 3, seed=4).head.logits(data.X[out])
    np.testing.assert_allclose(logits[out], expected)


def test_held_out_logits_keep_groups_together(clouds):
    """Each image has a twin; a nearest neighbour knows its twin's label unless both are held out."""
    half = clouds(n_images=40, n_classes=2, apart=0.0)
    known, y, groups = np.tile(half.X, (2, 1)), np.tile(half.y, 2), np.tile(np.arange(40), 2)
    apart = held_out_logits("knn", known, y, 2)[1].argmax(axis=1)
    together = held_out_logits("knn", known, y, 2, groups=groups)[1].argmax(axis=1)
    assert (apart == y).mean() > 0.8
    assert (together == y).mean() < 0.7


def test_no_folds_no_logits():
    rows, logits = held_out_logits("knn", np.eye(2, 5, dtype=np.float32), np.array([0, 1]), 2)
    assert (len(rows), logits.shape) == (0, (0, 2))
