"""The store: complete or absent, shared between processes, never a wrong row."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from regraft.backbones.preprocessing import Preprocessing
from regraft.features.store import Store, cache_folder, prune, summaries
from regraft.features.table import FeatureSpace

PREPROCESSING = Preprocessing((8, 8), 8, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)
SPACE = FeatureSpace("timm/x", "0" * 64, PREPROCESSING, "openvino", "f32")


def key(number):
    return f"{number:064x}"


def row(number, width=4):
    return np.full(width, number, np.float32)


def fill(store, numbers, notes=None):
    store.append([key(n) for n in numbers], np.stack([row(n) for n in numbers]), notes or {})


def test_rows_come_back_in_the_order_asked(tmp_path):
    store = Store.open(tmp_path, SPACE)
    fill(store, [1, 2, 3], {key(2): ["first of 3 frames"]})
    fill(store, [9])
    features, notes = store.gather([key(9), key(2), key(9), key(1)])
    assert features[:, 0].tolist() == [9, 2, 9, 1]
    assert notes == {key(2): ["first of 3 frames"]}
    assert store.missing([key(1), key(7)]) == {key(7)}
    with pytest.raises(KeyError):
        store.gather([key(7)])


def test_rows_are_read_one_at_a_time_in_the_order_asked(tmp_path):
    store = Store.open(tmp_path, SPACE)
    fill(store, [1, 2, 3])
    fill(store, [9, 2])  # twice, with the same value
    asked = [key(n) for n in (9, 2, 9, 1)]
    rows = store.rows(asked)
    assert len(rows) == 4
    assert [rows.row(n).tolist() for n in range(4)] == store.gather(asked)[0].tolist()
    assert rows.row(0).dtype == np.float32
    rows.row(0)[:] = 5  # the caller's own
    assert rows.row(0).tolist() == [9] * 4
    assert all(isinstance(table, np.memmap) for table in rows.tables)
    with pytest.raises(KeyError, match=key(7)):
        store.rows([key(1), key(7)])
    assert len(store.rows([])) == 0


def test_rows_may_go_to_other_processes_and_outlive_compaction_and_pruning(tmp_path):
    store = Store.open(tmp_path, SPACE)
    for n in range(6):
        store.append([key(n)], np.full((1, 50_000), n, np.float32), {})
    rows = store.rows([key(n) for n in range(6)])
    sent = pickle.dumps(rows)
    assert len(sent) < 2000, "the files are sent by name"
    store.compact(at_least=2)
    again = pickle.loads(sent)
    assert [again.row(n)[-1] for n in range(6)] == list(range(6))
    prune(tmp_path)
    assert [rows.row(n)[-1] for n in range(6)] == list(range(6))


def test_segments_are_plain_safetensors(tmp_path):
    store = Store.open(tmp_path, SPACE)
    fill(store, [5, 6])
    (segment,) = store.segments()
    assert load_file(segment.path)["features"].tolist() == [[5] * 4, [6] * 4]


def test_nothing_asked_gives_nothing(tmp_path):
    store = Store.open(tmp_path, SPACE)
    assert store.missing([]) == set()
    assert len(store.gather([])[0]) == 0
    store.append([], np.empty((0, 4), np.float32), {})
    assert store.segments() == []


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "timm/y"},
        {"weights_sha256": "1" * 64},
        {"precision": "bf16"},
        {"runtime": "torch"},
        {"view": "flip"},
        {"extractor": 0},
        {"preprocessing": Preprocessing((8, 8), 8, "shorter", "bilinear", (0.5,) * 3, (0.5,) * 3)},
    ],
)
def test_whatever_changes_a_feature_changes_the_space(tmp_path, change):
    values = {f: getattr(SPACE, f) for f in SPACE.__dataclass_fields__}
    other = FeatureSpace(**{**values, **change})
    fill(Store.open(tmp_path, SPACE), [1])
    assert Store.open(tmp_path, other).missing([key(1)]) == {key(1)}


def test_damaged_segments_are_as_if_absent(tmp_path):
    store = Store.open(tmp_path, SPACE)
    fill(store, [1])
    fill(store, [2])
    damaged = store.segments()[0]
    lost = damaged.keys[0].tobytes().hex()
    whole = damaged.path.read_bytes()
    for content in (b"", whole[:7], whole[:-1], b"\xff" * len(whole), whole[:8] + b"{}" + whole[10:]):
        damaged.path.write_bytes(content)
        assert store.missing([key(1), key(2)]) == {lost}


def test_compacting_keeps_every_row_once(tmp_path):
    store = Store.open(tmp_path, SPACE)
    for n in range(10):
        fill(store, [n, n + 1], {key(n): [f"note {n}"]})
    before = store.gather([key(n) for n in range(11)])
    store.compact(at_least=5)
    assert len(store.segments()) == 1
    assert len(store.segments()[0].keys) == 11
    after = store.gather([key(n) for n in range(11)])
    assert np.array_equal(before[0], after[0])
    assert before[1] == after[1]


def test_reader_survives_compaction(tmp_path):
    """A reader that holds mapped segments goes on reading them after their names are gone."""
    store = Store.open(tmp_path, SPACE)
    for n in range(4):
        fill(store, [n])
    held = store.segments()
    store.compact(at_least=2)
    assert sorted(s.features[0, 0] for s in held) == [0, 1, 2, 3]


WRITER = """
import sys, numpy as np, pathlib
sys.path.insert(0, {here!r})
from test_features_store import SPACE, fill, key
from regraft.features.store import Store
store = Store.open(pathlib.Path(sys.argv[1]), SPACE)
print("ready", flush=True)
for n in range(int(sys.argv[2]), 1_000_000, int(sys.argv[3])):
    fill(store, [n])
    if n % 40 == int(sys.argv[2]):
        store.compact(at_least=8)
    print(n, flush=True)
"""


def start_writer(cache, first, step):
    code = WRITER.format(here=os.path.dirname(__file__))  # noqa: PTH120
    return subprocess.Popen(
        [sys.executable, "-c", code, str(cache), str(first), str(step)], stdout=subprocess.PIPE, text=True
    )


def test_killing_writers_loses_no_row_that_was_reported(tmp_path):
    """Two writers at a time, killed at random moments, twelve times over one store: what was said to be there is."""
    generator, reported = np.random.default_rng(0), set()
    for round_ in range(6):
        writers = [start_writer(tmp_path, 1000 * round_ + first, 2) for first in (0, 1)]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.02, 0.3))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            said = writer.communicate()[0].splitlines()
            reported |= {int(line) for line in said if line.isdigit()}
    store = Store.open(tmp_path, SPACE)
    assert len(reported) > 20
    assert store.missing([key(n) for n in reported]) == set()
    features, _ = store.gather([key(n) for n in sorted(reported)])
    assert features[:, 0].tolist() == sorted(reported)
    store.compact(at_least=2)
    assert [p.name for p in store.folder.iterdir() if p.name.startswith(".regraft-tmp")] == []


def test_summaries_and_prune(tmp_path):
    assert summaries(tmp_path) == []
    fill(Store.open(tmp_path, SPACE), [1, 2])
    (tmp_path / "mine.txt").write_text("not yours")
    model = tmp_path / "models" / "abc"
    model.mkdir(parents=True)
    (model / "model.json").write_text(json.dumps({"architecture": "timm/x"}))
    found = {s.what: s for s in summaries(tmp_path)}
    assert found["features"].rows == 2
    assert found["features"].description == "timm/x openvino f32 plain"
    assert found["model"].description == "timm/x"
    assert prune(tmp_path, older_than=1) == []
    assert len(prune(tmp_path)) == 2
    assert summaries(tmp_path) == []
    assert (tmp_path / "mine.txt").read_text() == "not yours"


def test_cache_folder_is_named_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("REGRAFT_CACHE_DIR", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x"
    monkeypatch.delenv("REGRAFT_CACHE_DIR")
    assert cache_folder().name == "regraft"
