"""What is unlike the training images, against plain loops and other clouds; and the way into a bundle and back."""

import csv
import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from regraft.errors import BundleError, DataError
from regraft.evaluation.abstaining import choose_threshold
from regraft.inference.bundle import read_bundle
from regraft.inference.guard import Guard, learn_familiar, read_guard
from regraft.inference.predictor import Prediction, Predictor
from regraft.inference.tabulate import write_predictions


def rows(n, seed=0, where=0, width=64):
    """Features that lie near one of four directions; `where` decides which directions."""
    middles = np.abs(np.random.default_rng(where).standard_normal((4, width))) * 3
    generator = np.random.default_rng([seed, where])
    known = middles[generator.integers(0, 4, n)] + generator.standard_normal((n, width))
    return (known * generator.uniform(0.5, 2, (n, 1))).astype(np.float32)


def auroc(own, foreign):
    return (foreign[:, None] > own).mean()


def test_the_score_is_the_cosine_distance_to_the_third_nearest():
    known, fresh = rows(40), rows(7, seed=1)
    familiar = learn_familiar(known)
    unit = known / np.linalg.norm(known, axis=1, keepdims=True)
    for image, score in zip(fresh, familiar.unlike(fresh), strict=True):
        third = sorted(1 - unit @ (image / np.linalg.norm(image)))[2]
        assert score * familiar.limit == pytest.approx(third, abs=2e-3)  # directions are kept as float16


def test_about_one_in_a_hundred_of_the_same_kind_is_flagged_and_all_of_another():
    shares = []
    for seed in range(10):
        familiar = learn_familiar(rows(300, seed=seed))
        own, foreign = familiar.unlike(rows(1000, seed=100 + seed)), familiar.unlike(rows(200, where=1))
        shares.append((own > 1).mean())
        assert (foreign > 1).mean() > 0.95
        assert auroc(own, foreign) > 0.99
    assert 0.003 < np.mean(shares) < 0.03


def test_a_few_stray_training_images_do_not_open_the_door():
    clean, stray = rows(240), rows(5, where=2)
    limits = [learn_familiar(known).limit for known in (clean, np.concatenate([clean, stray]))]
    assert limits[1] < 1.2 * limits[0]


def test_brightness_and_order_do_not_count():
    known, fresh = rows(50), rows(9, seed=1)
    plain = learn_familiar(known).unlike(fresh)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(learn_familiar(known[order] * 7).unlike(fresh * 0.1), plain, rtol=1e-4)


def test_backbones_have_the_same_say():
    known, fresh = rows(50), rows(9, seed=1)
    parts = [slice(0, 20), slice(20, 64)]
    louder, louder_fresh = known.copy(), fresh.copy()
    louder[:, parts[0]] *= 1000
    louder_fresh[:, parts[0]] *= 1000
    plain = learn_familiar(known, blocks=(20, 44)).unlike(fresh)
    np.testing.assert_allclose(learn_familiar(louder, blocks=(20, 44)).unlike(louder_fresh), plain, rtol=1e-4)
    cosines = np.zeros((9, 50))
    for part in parts:
        of_these, asked = (A[:, part] / np.linalg.norm(A[:, part], axis=1, keepdims=True) for A in (known, fresh))
        cosines += asked @ of_these.T / 2
    familiar = learn_familiar(known, blocks=(20, 44))
    np.testing.assert_allclose(plain * familiar.limit, 1 - np.sort(cosines, axis=1)[:, -3], atol=2e-3)


def test_groups_are_not_their_own_neighbours():
    """Ten frames of each of thirty films: without groups the limit is that of frames of the same film."""
    films = rows(30)
    known = (np.repeat(films, 10, axis=0) + np.random.default_rng(0).normal(size=(300, 64)) * 0.01).astype(np.float32)
    groups = np.repeat(np.arange(30), 10)
    new = rows(200, seed=9)
    assert (learn_familiar(known).unlike(new) > 1).mean() > 0.9
    assert (learn_familiar(known, groups=groups).unlike(new) > 1).mean() < 0.3


def test_many_wide_rows_stay_small():
    familiar = learn_familiar(np.random.default_rng(0).normal(size=(3000, 1000)).astype(np.float32))
    assert familiar.directions.nbytes <= 3_000_000


@pytest.mark.parametrize("n", [0, 1, 4])
def test_too_few_images_say_nothing(n):
    assert learn_familiar(rows(n)) is None
    assert learn_familiar(rows(40), groups=np.zeros(40)) is None


def test_images_that_are_all_the_same_are_harmless():
    same = np.ones((20, 8), np.float32)
    assert (learn_familiar(same).unlike(same) < 1).all()
    assert learn_familiar(np.zeros((20, 8), np.float32)).unlike(same).shape == (20,)
    half = np.concatenate([same, rows(15, width=8)])
    assert np.isfinite(learn_familiar(half).limit)


def test_broken_features_are_refused():
    familiar = learn_familiar(rows(20))
    with pytest.raises(DataError, match="64"):
        familiar.unlike(np.ones((2, 5), np.float32))
    with pytest.raises(DataError, match="NaN"):
        familiar.unlike(np.full((2, 64), np.nan, np.float32))


def threshold():
    return choose_threshold(np.linspace(0.99, 0.5, 60), np.arange(60) < 45, 0.9)


@pytest.mark.parametrize("familiar", [None, learn_familiar(rows(30), blocks=(14, 50))])
@pytest.mark.parametrize("chosen", [None, threshold()])
def test_saved_and_loaded_says_the_same(familiar, chosen):
    guard, fresh = Guard(chosen, familiar), rows(12, seed=3)
    again = read_guard(json.loads(json.dumps(guard.settings())), load(save(guard.arrays())) if guard.arrays() else {})
    assert again.threshold == guard.threshold
    confidence = np.linspace(0.5, 1, 20)
    assert again.unsure(confidence).tolist() == guard.unsure(confidence).tolist()
    assert guard.unsure(confidence).any() == (chosen is not None)
    if familiar is None:
        assert again.unlike(fresh) is None
    else:
        assert again.unlike(fresh).tolist() == guard.unlike(fresh).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"threshold": None, "familiar": {"limit": 1.0, "blocks": [3]}},
        {"threshold": {"value": 0.5}, "familiar": None},
        {"threshold": 5, "familiar": None},
    ],
)
def test_what_is_no_guard_is_refused(settings):
    with pytest.raises(BundleError, match="guard"):
        read_guard(settings, {})


def test_a_bundle_keeps_its_guard(write, features):
    familiar = learn_familiar(features.X)
    folder, bundle = write(guard=Guard(threshold(), familiar))
    again = read_bundle(folder)
    assert again.guard.threshold == bundle.guard.threshold
    assert again.guard.unlike(features.X).tolist() == familiar.unlike(features.X).tolist()
    (folder / "guard.safetensors").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"guard\.safetensors was changed or damaged"):
        read_bundle(folder)


def test_a_guard_of_other_features_is_refused(write):
    folder, _ = write(guard=Guard(None, learn_familiar(rows(20))))
    with pytest.raises(BundleError, match="12 features"):
        read_bundle(folder)


def test_a_bundle_without_a_guard_guards_nothing(write, features):
    folder, _ = write()
    assert not (folder / "guard.safetensors").exists()
    guard = read_bundle(folder).guard
    assert not guard.unsure(np.array([0.0])).any()
    assert guard.unlike(features.X) is None


def test_predictions_say_unsure_and_unlike(write, features, tmp_path):
    chosen = threshold()
    _, bundle = write(guard=Guard(chosen, learn_familiar(features.X)))
    strange = -features.X[:1]
    answers = Predictor(bundle, tmp_path)._answers(
        ["a", "b"], np.concatenate([features.X[:1], strange]), {"b": ("cut",)}
    )
    for answer in answers.values():
        assert answer.unsure == (answer.probability < chosen.value)
    assert not answers["a"].is_unlike
    assert answers["b"].is_unlike
    assert answers["b"].notes == ("cut",)
    assert answers["a"].probability == max(answers["a"].probabilities.values())


def test_written_answers_say_unlike_alike_in_every_format(write, features, tmp_path):
    _, bundle = write(guard=Guard(None, learn_familiar(features.X)))
    rows = np.concatenate([features.X[:1], -features.X[:1]])
    answers = [*Predictor(bundle, tmp_path)._answers(["a", "b"], rows, {}).values(), Prediction("c", error="no image")]
    for name in ("a.csv", "a.json"):
        write_predictions(answers, bundle.classes, tmp_path / name)
    with (tmp_path / "a.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as handle:
        table = list(csv.DictReader(handle))
    nested = json.loads((tmp_path / "a.json").read_text())
    assert [row["is_unlike"] for row in table] == ["False", "True", ""]
    assert [row["is_unlike"] for row in nested] == [False, True, None]
    for one, other, answer in zip(table, nested, answers[:2], strict=False):
        assert float(one["unlike"]) == other["unlike"] == round(answer.unlike, 4)
