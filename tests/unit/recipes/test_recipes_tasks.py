"""Several tasks on features: which words name tasks, what is refused, heads in threads, splits."""

from types import SimpleNamespace

import numpy as np
import pytest

from regraft.data.manifest import Item, Manifest
from regraft.data.task_table import TaskData
from regraft.data.tasks import Task
from regraft.errors import DataError, OptionError
from regraft.features.table import FeatureTable
from regraft.heads.tasks import fit_task
from regraft.recipes.catalogue import strategy
from regraft.recipes.gather import Gathered
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.tasks import fit_tasks, guard_tasks, measure_tasks
from regraft.recipes.tasks_data import gather_tasks, names_tasks, part_of

N, D = 120, 24


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("path,species,price,a:regression,b\nx.jpg,cat,1,u,0\n")
    return path


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        (None, False),
        ("species", False),
        (["species"], False),
        (["species", "b"], True),
        ("price:regression", True),
        ("species:classes", False),
        ("a:regression", False),  # a column of that name: classes
        (["b,price:multilabel"], True),
    ],
)
def test_which_words_name_tasks(table, label, wanted):
    assert names_tasks(label, table) is wanted


def test_tasks_need_a_table(table, tmp_path):
    for data in (None, tmp_path, "sample:textile"):
        with pytest.raises(OptionError, match="table"):
            names_tasks(["a", "b"], data)
    with pytest.raises(DataError, match="no column"):
        names_tasks(["species", "prise"], table)


@pytest.fixture
def made():
    """Images with features and three tasks, one in ten unknown in each."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(N, D)).astype(np.float32)
    kind = (features[:, :3] + generator.normal(size=(N, 3)) * 0.3).argmax(1).astype(np.int64)
    tags = (features[:, 3:5] + generator.normal(size=(N, 2)) * 0.3 > 0).astype(np.int8)
    size = features[:, 5:6].astype(np.float64) * 3 + generator.normal(size=(N, 1))
    kind[::10], tags[1::10], size[2::10] = -1, -1, np.nan
    splits = ["train"] * 80 + ["val"] * 20 + ["test"] * 20
    items = tuple(Item(f"/{n}.jpg", split=split, key=f"{n:03}") for n, split in enumerate(splits))
    manifest = Manifest(items, (), "made")
    tasks = (
        Task("kind", "classes", ("kind",), ("a", "b", "c")),
        Task("tags", "multilabel", ("l", "m"), ("l", "m")),
        Task("size", "regression", ("size",), ("size",)),
    )
    cells = tuple((("",), ("", ""), ("",)) for _ in range(N))
    data = TaskData(manifest, tasks, cells, (kind, tags, size))
    table = FeatureTable(tuple(str(item.key) for item in items), features, ())
    return Gathered(manifest, table, (), None), data


def test_heads_fitted_side_by_side_are_those_fitted_one_by_one(made):
    gathered, data = made
    fitted = fit_tasks(gathered, data, strategy("linear-probe"), 0, Clock(), Listener())
    features, train = gathered.split("train").table.features, part_of(data, "train")
    for part, task, targets in zip(fitted.head.parts, train.tasks, train.targets, strict=True):
        alone = fit_task(task.kind, "linear-probe", features, targets, len(task.classes), names=task.classes)
        assert part.head.settings() == alone.head.settings()
        for name, array in alone.head.arrays().items():
            assert np.array_equal(part.head.arrays()[name], array), (task.name, name)
        assert fitted.chosen[task.name] == alone.chosen
    assert {row["task"] for row in fitted.history} == {"kind", "tags", "size"}


def test_the_process_has_its_threads_again_afterwards(made):
    from threadpoolctl import threadpool_info

    gathered, data = made
    before = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    fit_tasks(gathered, data, strategy("linear-probe"), 0, Clock(), Listener())
    after = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    assert {path: after[path] for path in before} == before


def test_thresholds_come_from_validation_images_only(made):
    gathered, data = made
    fitted = fit_tasks(gathered, data, strategy("linear-probe"), 0, Clock(), Listener())
    measured, outputs, scores = measure_tasks(gathered, data, fitted, 0, Clock(), Listener())
    assert list(scores) == ["test", "val"]
    assert scores["val"].thresholds
    assert not scores["test"].thresholds
    thresholds = measured.head.parts[1].thresholds
    assert len(thresholds) == 2
    targets = [target.copy() for target in data.targets]
    targets[1][100:] = 1 - targets[1][100:].clip(0)  # other truth in test
    planted = TaskData(data.manifest, data.tasks, data.cells, tuple(targets))
    again, *_ = measure_tasks(gathered, planted, fitted, 0, Clock(), Listener())
    assert again.head.parts[1].thresholds == thresholds
    best = outputs["val"][1]
    f1 = _f1(best.outputs, best.targets, thresholds)
    for move in (-0.5, 0.5):
        moved = [limit + move for limit in thresholds]
        assert f1 >= _f1(best.outputs, best.targets, moved) - 1e-12


def _f1(outputs, targets, thresholds):
    known = targets >= 0
    said, has = (outputs >= np.array(thresholds)) & known, targets == 1
    each = 2 * (said & has).sum(0) / np.maximum(said.sum(0) + has.sum(0), 1)
    return each.mean()


def test_a_head_is_calibrated_as_in_a_run_of_its_own(made):
    gathered, data = made
    plan = strategy("linear-probe")
    fitted = fit_tasks(gathered, data, plan, 0, Clock(), Listener())
    guarded, guard = guard_tasks(gathered, data, fitted, plan, "temperature", 0, Clock(), Listener())
    head = guarded.head.parts[0].head
    assert head.name == "calibrated"
    assert any(note.startswith("kind: probabilities calibrated") for note in guarded.notes)
    assert [part.head for part in guarded.head.parts[1:]] == [part.head for part in fitted.head.parts[1:]]
    features = gathered.table.features
    before, after = fitted.head.parts[0].head.logits(features), head.logits(features)
    assert (before.argmax(1) == after.argmax(1)).all()
    assert guard.threshold is None
    assert (guard.unlike(features) > 0).all()
    untouched, _ = guard_tasks(gathered, data, fitted, plan, "none", 0, Clock(), Listener())
    assert untouched.head.parts[0].head is fitted.head.parts[0].head


def test_what_cannot_be_learnt_is_refused_before_the_long_part(tmp_path):
    (tmp_path / "x.jpg").write_bytes(b"x")
    (tmp_path / "y.jpg").write_bytes(b"y")
    table = tmp_path / "t.csv"
    options = {"data": table, "label": ["kind", "size:regression"], "root": None, "features": None, "seed": 0}
    options |= dict.fromkeys(("path_column", "split_column", "group_column"))
    asked = SimpleNamespace(**options, max_rejected=0.05, resplit=False)

    def gather(text):
        table.write_text(text)
        gather_tasks(asked, strategy("linear-probe"), None, tmp_path, Clock(), Listener())

    with pytest.raises(DataError, match="images of one class of 'kind'"):
        gather("path,split,kind,size\nx.jpg,train,a,1\ny.jpg,test,b,2\n")
    asked.label = ["tags:multilabel"]
    with pytest.raises(DataError, match="no image with any of 'tags'"):
        gather("path,split,tags\nx.jpg,train,|\ny.jpg,test,red|round\n")
