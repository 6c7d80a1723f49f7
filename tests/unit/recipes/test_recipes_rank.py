"""The recommendation and the file of `rank`, the training part alone, and the classifier that came with the weights."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from odd_images import simple_folder
from regraft.backbones import packaged
from regraft.checkpoints.match import match
from regraft.checkpoints.read import read_state_dict
from regraft.data.read import read_data
from regraft.data.splits import make_splits
from regraft.errors import BackboneError, CannotWrite, DataError, OptionError, RunExists
from regraft.features.store import cache_folder
from regraft.recipes import image_times as image_times_module
from regraft.recipes.backbone import prepare_backbone
from regraft.recipes.image_times import image_times
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.rank import rank
from regraft.recipes.ranking import RankedBackbone, Ranking, check_target, recommend, write_ranking
from regraft.recipes.source_head import source_logits


def one(name, place, *, tied=True, seconds=0.01, loss=0.2):
    pair = (0.1, 0.3)
    return RankedBackbone(
        name, place, (1, 2), tied, loss, pair, pair, 0.9, pair, 0.8, pair, 0.5, 0.9, None, None, seconds, 8, 4_000_000
    )


def test_the_cheapest_of_those_that_are_tied_is_recommended():
    ranked = [one("a", 1, seconds=0.03), one("b", 2), one("c", 3, tied=False, seconds=0.001)]
    name, sentence = recommend(ranked, 120)
    assert name == "b"
    assert "a has the least log loss" in sentence
    assert "120 images cannot tell it from b" in sentence
    assert "10 ms an image, 4 MB" in sentence


def test_as_fast_within_a_tenth_goes_by_rank():
    ranked = [one("a", 1, seconds=0.0105), one("b", 2)]
    assert recommend(ranked, 9)[0] == "a"
    assert "none of which is cheaper" in recommend(ranked, 9)[1]


def test_the_first_alone_is_recommended_however_dear():
    ranked = [one("a", 1, seconds=9), one("b", 2, tied=False)]
    name, sentence = recommend(ranked, 50)
    assert name == "a"
    assert "50 images tell it from all others" in sentence
    assert "the only one" in recommend(ranked[:1], 50)[1]


def test_losses_are_told_with_the_digits_that_tell_them_apart():
    for more, expected in ((0.3, "0.200 against 0.300"), (0.20004, "0.20000 against 0.20004"), (0.2, "to six digits")):
        assert expected in recommend([one("a", 1, seconds=0.03), one("b", 2, loss=more)], 9)[1]


def test_the_least_time_of_several_occasions_is_kept(monkeypatch, tmp_path):
    ready = SimpleNamespace(spaces=[SimpleNamespace(fingerprint=lambda: "a")])
    seconds = iter((0.02, 0.01, 0.03))
    monkeypatch.setattr(image_times_module, "seconds_an_image", lambda some: {name: next(seconds) for name in some})
    assert [image_times([ready], tmp_path)["a"] for _ in range(5)] == [20, 10, 10, 10, 10]
    (kept,) = (tmp_path / "cards").iterdir()
    kept.write_text('{"ms": 5.0}')  # of an earlier version
    seconds = iter((0.002,))
    assert image_times([ready], tmp_path)["a"] == 2
    kept.write_text("damaged")
    seconds = iter((0.004,))
    assert image_times([ready], tmp_path)["a"] == 4


def test_files_hold_everything(tmp_path):
    ranked = (one("a", 1), replace(one("b", 2, seconds=0.02), leep=-0.5))
    ranking = Ranking(ranked, {"c": "not here"}, "a", "Recommended: a.", 50, 3)
    write_ranking(ranking, tmp_path / "r.json")
    values = json.loads((tmp_path / "r.json").read_text())
    assert [row["name"] for row in values["backbones"]] == ["a", "b"]
    assert values["failed"] == {"c": "not here"}
    write_ranking(ranking, tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    assert [row["recommended"] for row in rows] == ["True", "False", ""]
    assert [row["leep"] for row in rows] == ["", "-0.5", ""]
    assert (rows[0]["log_loss_low"], rows[0]["log_loss_high"], rows[2]["error"]) == ("0.1", "0.3", "not here")


def test_places_that_cannot_be_written_are_refused_first(tmp_path):
    with pytest.raises(OptionError, match=r"\.csv or \.json"):
        check_target(tmp_path / "r.txt", overwrite=False)
    (tmp_path / "r.csv").write_text("mine")
    with pytest.raises(RunExists, match="--overwrite"):
        check_target(tmp_path / "r.csv", overwrite=False)
    check_target(tmp_path / "r.csv", overwrite=True)
    with pytest.raises(CannotWrite):
        check_target(tmp_path / "r.csv" / "r.csv", overwrite=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("rank") / "photos"
    simple_folder(place, classes=3, per_class=14)
    return place


def test_only_the_training_part_has_a_say(folder, tmp_path):
    found = rank(folder, backbones="efficientnet_lite0")
    row = found.backbones[0]
    assert (found.images, found.classes, found.recommended) == (30, 3, "efficientnet_lite0")
    assert (row.rank, row.rank_interval, row.tied, row.dims) == (1, (1, 1), True, 1280)
    assert row.accuracy > 0.8
    assert row.accuracy_interval[0] <= row.accuracy <= row.accuracy_interval[1]
    assert row.log_loss_interval[0] < row.log_loss < row.log_loss_interval[1]
    assert row.seconds > 0
    assert row.size_bytes > 10_000_000
    divided = make_splits(read_data(folder))
    divided.write(tmp_path / "given.csv")
    turned = dict(zip(divided.classes, divided.classes[1:] + divided.classes[:1], strict=True))
    wrong = [i if i.split == "train" else replace(i, label=turned[i.label]) for i in divided.items]
    replace(divided, items=tuple(wrong)).write(tmp_path / "turned.csv")
    rows = [rank(tmp_path / f"{name}.csv", backbones="efficientnet_lite0").backbones[0] for name in ("given", "turned")]
    assert replace(rows[0], seconds=0.0) == replace(rows[1], seconds=0.0)


def test_mistakes_are_told(folder, tmp_path):
    with pytest.raises(OptionError, match="separated by commas"):
        rank(folder, backbones="efficientnet_lite0,,b")
    with pytest.raises(BackboneError, match=r"No backbone could be scored\. file:absent\.pth: "):
        rank(folder, backbones="file:absent.pth")
    with pytest.raises(BackboneError, match="There is no backbone 'nonsense'"):
        rank(folder, backbones=["efficientnet_lite0", "nonsense"])
    with pytest.raises(OptionError, match="backbones is 5"):
        rank(folder, backbones=5)
    simple_folder(tmp_path / "few", classes=2, per_class=1)
    files = [path.relative_to(tmp_path) for path in sorted((tmp_path / "few").rglob("*.jpg"))]
    rows = [f"{path},{path.parent.name},train" for path in files]
    other = next(folder.rglob("*.jpg"))
    (tmp_path / "few.csv").write_text("\n".join(["path,label,split", *rows, f"{other},{files[0].parent.name},val"]))
    told = []
    with pytest.raises(DataError, match="Nothing can be held out"):
        rank(tmp_path / "few.csv", backbones="efficientnet_lite0", listener=Listener(told.append))
    assert not any("backbone" in line for line in told)  # refused before any network runs


def prepared(name="efficientnet_lite0"):
    options = {"runtime": "auto", "precision": "f32", "views": "none"}
    return prepare_backbone(name, cache_folder(), Clock(), Listener(), **options)


def test_source_logits_are_those_of_the_whole_network(one_thread):
    whole = packaged.build_module("efficientnet_lite0", classes=1000)
    match(read_state_dict(packaged.weights_path("efficientnet_lite0")), whole, allow_partial=1)
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = whole(images).numpy()
        features = whole.forward_head(whole.forward_features(images), pre_logits=True).numpy()
    np.testing.assert_allclose(source_logits(prepared(), features), wanted, atol=1e-4)


def test_no_source_logits_without_a_classifier_or_of_ones_own_file(tmp_path):
    ready = prepared()
    features = np.zeros((2, 1280), np.float32)
    own = replace(ready, card=replace(ready.card, checkpoint={"container": "torch"}))
    assert source_logits(own, features) is None
    bare = {k: v for k, v in read_state_dict(ready.card.weights_file).items() if not k.startswith("_fc")}
    torch.save(bare, tmp_path / "bare.pth")
    without = replace(ready, card=replace(ready.card, weights_file=str(tmp_path / "bare.pth")))
    assert source_logits(without, features) is None
    torch.save({**bare, "a.weight": torch.ones(5, 1280), "a.bias": torch.ones(5)}, tmp_path / "own.pth")
    with_five = replace(ready, card=replace(ready.card, weights_file=str(tmp_path / "own.pth")))
    assert source_logits(with_five, features).tolist() == [[1.0] * 5] * 2
