"""From what the user named to pairs that can be learnt from, and to the pixels that count."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from change_pairs import write_pairs
from regraft.data.change_labels import LabelCoding
from regraft.data.decode import MAX_PIXELS
from regraft.data.pairs import read_pairs
from regraft.errors import DataError, ImageRejected, OptionError, TooManyRejected
from regraft.recipes.change_data import check_bands, divided, gather_pairs, names_pairs, read_named
from regraft.recipes.change_evaluate import _part, count_seen
from regraft.recipes.change_measure import look, measure_pairs
from regraft.recipes.change_predict import map_pairs
from regraft.recipes.listen import Clock, Listener

CODING = LabelCoding(((0, 0), (255, 1)), 2, ignore=False)


@pytest.fixture
def town(tmp_path):
    return write_pairs(tmp_path / "town", 6, side=32)


def gather(data, *, listener=None, max_rejected=0.05, **how):
    return gather_pairs(
        data, Clock(), listener or Listener(), max_rejected=max_rejected, **{"max_pixels": 10**6, **how}
    )


def test_pairs_are_recognised_by_their_folders_or_columns(town, photos_folder, tmp_path):
    assert names_pairs(town, "auto")
    assert names_pairs(str(town), "auto")
    assert not names_pairs(photos_folder, "auto")
    assert not names_pairs(None, "auto")
    assert not names_pairs("sample:textile", "auto")
    assert not names_pairs(tmp_path / "nowhere", "auto")
    (tmp_path / "t.csv").write_text("before,after\n")
    assert names_pairs(tmp_path / "t.csv", "auto")
    assert names_pairs(photos_folder, "change")
    assert not names_pairs(town, "classes")
    with pytest.raises(OptionError, match="task 'pairs' is unknown: use auto, classes, change"):
        names_pairs(town, "pairs")


@pytest.fixture
def photos_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name / "0.png")
    return tmp_path / "photos"


def test_a_folder_and_its_manifest_are_the_same_pairs(town, tmp_path):
    data = gather(town)
    data.pairs.write(tmp_path / "manifest.csv")
    again = gather(tmp_path / "manifest.csv")
    assert again.pairs.items == data.pairs.items
    assert again.pairs.sha256() == data.pairs.sha256()
    assert read_named(tmp_path / "manifest.csv").split_sizes() == {"train": 4, "val": 2}


def test_what_is_found_is_told(town):
    told, done = [], []
    data = gather(town, listener=Listener(say=told.append, progress=lambda *n: done.append(n)))
    assert told == ["6 pairs, 3 bands of uint8; 2 classes (0 is class 0, 255 is class 1)"]
    assert done[-1] == (6, 6)
    assert all(len(item.key) == 64 for item in data.pairs.items)
    np.testing.assert_array_equal(data.survey.class_pixels.sum(1), 32 * 32)


def test_what_cannot_be_read_is_put_aside_or_stops(town):
    path = town / "B" / "p02.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TooManyRejected, match=r"p02\.png"):
        gather(town)
    data = gather(town, max_rejected=0.5)
    assert len(data.pairs) == len(data.survey.sizes) == 5
    assert [one.path for one in data.rejected] == [str(path)]


def test_larger_pictures_than_allowed_are_put_aside(town):
    with pytest.raises((DataError, TooManyRejected), match="pixels"):
        gather(town, max_pixels=1000)


def test_masks_without_change_are_fine_for_a_model_that_knows_its_classes(tmp_path):
    write_pairs(tmp_path / "calm", 3, changed=False)
    with pytest.raises(DataError, match="nothing to learn"):
        gather(tmp_path / "calm")
    assert gather(tmp_path / "calm", classes=2).coding.classes == 2


def test_a_validation_part_is_set_aside_where_there_is_none(tmp_path):
    write_pairs(tmp_path / "d", 8, side=32, lists=False)
    told = []
    data = divided(gather(tmp_path / "d"), Listener(say=told.append), seed=0, resplit=False)
    assert data.pairs.split_sizes() == {"train": 7, "val": 1}
    assert told[-1].count("train 7, val 1") == 1
    again = divided(gather(tmp_path / "d"), Listener(), seed=0, resplit=False)
    assert again.pairs == data.pairs
    assert len(data.survey.sizes) == len(data.pairs), "the survey still belongs to the pairs"


def test_given_splits_stay_unless_new_ones_are_asked_for(town):
    told, whole = [], gather(town)
    kept = divided(whole, Listener(say=told.append), seed=5, resplit=False)
    assert kept.pairs.items == whole.pairs.items
    assert told == ["splits: as given (list/train.txt, list/val.txt); train 4, val 2"]
    assert divided(whole, Listener(), seed=5, resplit=True).pairs.items != whole.pairs.items


@pytest.mark.parametrize(("bands", "dtype"), [(4, "uint8"), (3, "uint16")])
def test_other_bands_than_the_model_s_are_refused(town, bands, dtype):
    found = gather(town).survey
    check_bands(found, SimpleNamespace(bands=3, dtype="uint8"), "town")
    with pytest.raises(DataError, match=f"town has 3 bands of uint8, but the model was trained on {bands} of {dtype}"):
        check_bands(found, SimpleNamespace(bands=bands, dtype=dtype), "town")


def test_the_most_honest_part_is_evaluated(town):
    pairs = read_pairs(town)
    assert [_part(pairs, split)[0] for split in ("auto", "train", "all")] == ["val", "train", "all"]
    assert len(_part(pairs, "all")[1]) == 6
    tested = replace(pairs, items=(*pairs.items[:5], replace(pairs.items[5], split="test")))
    assert _part(tested, "auto") == ("test", tested.items[5:])
    bare = replace(pairs, items=tuple(replace(item, split=None) for item in pairs.items))
    assert _part(bare, "auto")[0] == "all"
    with pytest.raises(OptionError, match=r"split 'test' is not in .*, which has train \(4\), val \(2\)"):
        _part(pairs, "test")


def test_pairs_seen_in_training_are_counted_by_their_bytes(town, tmp_path):
    pairs = gather(town).pairs
    assert count_seen(pairs.items, tmp_path) == 0
    pairs.write(tmp_path / "manifest.csv")
    assert count_seen(pairs.items, tmp_path) == 4
    moved = [replace(item, name=f"other/{item.name}", split=None) for item in pairs.items]
    assert count_seen(moved, tmp_path) == 4
    assert count_seen([replace(item, key="0" * 64) for item in pairs.items], tmp_path) == 0


def test_pixels_without_data_in_either_date_do_not_count(town):
    pair = read_pairs(town).items[0]
    see_through = np.full((32, 32, 4), 200, np.uint8)
    see_through[:5, :, 3] = 0
    Image.fromarray(see_through).save(pair.after)
    before, after, mask = look(pair, CODING, MAX_PIXELS)
    assert before.shape == after.shape == (32, 32, 3)
    assert (mask[:5] == 255).all()
    assert (mask[5:] != 255).all()
    with Image.open(pair.label) as picture:
        np.testing.assert_array_equal(mask[5:] == 1, np.asarray(picture)[5:] == 255)


def test_each_pair_is_counted_in_order(town):
    items, seen = read_pairs(town).items, []

    def tell(before, after):
        changed = (np.abs(after.astype(int) - before).mean(-1) > 60).astype(np.float32)
        return np.stack([1 - changed, changed])

    found = measure_pairs(tell, items, CODING, MAX_PIXELS, Clock(), Listener(progress=lambda *n: seen.append(n)))
    assert found.pairs == items
    assert seen == [(n, 6) for n in range(1, 7)]
    for one in found.counts:
        assert one.confusion.tolist() == [[32 * 32 - 24 * 24, 0], [0, 24 * 24]]
    Path(items[3].after).unlink()
    with pytest.raises(ImageRejected, match=r"p03\.png"):
        measure_pairs(tell, items, CODING, MAX_PIXELS, Clock(), Listener())


class Recorder:
    """In the place of a predictor: notes what it is asked for."""

    def __init__(self):
        self.asked = []

    def map_scene(self, before, after, output, **how):
        self.asked.append((output, how["vector"]))
        output.write_bytes(b"map")
        return SimpleNamespace(changed=0.25)


def test_each_map_has_the_name_of_its_pair(town, tmp_path):
    model, target = Recorder(), tmp_path / "out"
    found = map_pairs(model, town, target, vector="gpkg")
    assert found == [(f"p{number:02d}.png", 0.25, "") for number in range(6)]
    assert model.asked[0] == (target / "p00.png", target / "p00.gpkg")
    assert (target / "summary.csv").read_text().splitlines()[:2] == ["name,changed,error", "p00.png,0.250000,"]


@pytest.mark.parametrize("name", ["../x.png", "/x.png", ".", "a/../../x.png"])
def test_no_name_leads_out_of_the_folder(town, tmp_path, name):
    (tmp_path / "t.csv").write_text(f"before,after,name\ntown/A/p00.png,town/B/p00.png,{name}\n")
    model = Recorder()
    with pytest.raises(DataError, match="give it another name"):
        map_pairs(model, tmp_path / "t.csv", tmp_path / "out")
    assert not model.asked
    assert not (tmp_path / "out").exists()


def test_two_maps_of_one_name_are_refused(town, tmp_path):
    rows = "town/A/p00.png,town/B/p00.png,x.png\ntown/A/p01.png,town/B/p01.png,x.jpg\n"
    (tmp_path / "t.csv").write_text(f"before,after,name\n{rows}")
    with pytest.raises(DataError, match="two pairs would be written to"):
        map_pairs(Recorder(), tmp_path / "t.csv", tmp_path / "out")
