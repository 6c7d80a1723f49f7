import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from regraft.data.manifest import Item, Manifest, Skipped, check_not_empty, hash_items
from regraft.errors import DataError

ITEMS = (
    Item("/1", "b", "train", None, "k1"),
    Item("/2", "a", "val", "g", "k2"),
    Item("/3", None, "train", None, "k3"),
    Item("/4", "else", None, None, "k4"),
)
MANIFEST = Manifest(ITEMS, ("a", "b", "c"), "x", (Skipped("/5", "hidden"),))


def test_counts_and_targets():
    assert len(MANIFEST) == 4
    assert MANIFEST.split_sizes() == {"train": 2, "val": 1}
    assert MANIFEST.class_sizes() == {"a": 1, "b": 1, "c": 0}
    assert MANIFEST.targets() == [1, 0, -1, -1]
    assert MANIFEST.split("train").items == (ITEMS[0], ITEMS[2])


def test_the_hash_knows_content_and_not_places():
    moved = replace(MANIFEST, items=tuple(replace(item, path=f"/far{item.path}") for item in reversed(ITEMS)))
    assert moved.sha256() == MANIFEST.sha256()
    for change in ({"label": "c"}, {"split": "test"}, {"group": "h"}, {"key": "k5"}):
        assert replace(MANIFEST, items=(replace(ITEMS[0], **change), *ITEMS[1:])).sha256() != MANIFEST.sha256()
    assert replace(MANIFEST, classes=("b", "a", "c")).sha256() != MANIFEST.sha256()


def test_csv():
    assert MANIFEST.to_csv() == (
        "path,label,split,group,sha256\n/1,b,train,,k1\n/2,a,val,g,k2\n/3,,train,,k3\n/4,else,,,k4\n"
    )


def test_hashing_reads_the_bytes_and_believes_no_one(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").mkdir()
    kept, lost = hash_items([Item(str(tmp_path / name), "x", key="claimed") for name in ("a", "b", "c")])
    assert kept == [Item(str(tmp_path / "a"), "x", key=hashlib.sha256(b"1").hexdigest())]
    assert [Path(s.path).name for s in lost] == ["b", "c"]
    assert [s.reason for s in lost] == [f"cannot be read ({os.strerror(21)})", "file not found"]


def test_paths_that_no_file_system_takes_are_lost_with_a_reason(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    kept, lost = hash_items([Item(str(tmp_path / name)) for name in ("x\0y", "a", "\ud800", "a/b", "z" * 5000)])
    assert [Path(item.path).name for item in kept] == ["a"]
    assert [s.reason.split(" (")[0] for s in lost] == [
        "file not found: its path holds a null byte",
        "file not found: its path is not valid Unicode",
        "file not found",
        "cannot be read",
    ]


def test_a_long_list_is_hashed_in_stretches_and_stays_in_order(tmp_path, monkeypatch):
    for n in range(7):
        (tmp_path / f"{n}").write_bytes(str(n).encode())
    items = [Item(str(tmp_path / f"{n % 8}"), group=str(n)) for n in range(10_000)]
    waiting, most = [0], [0]
    real = ThreadPoolExecutor.submit

    def submit(self, *args):
        future = real(self, *args)
        waiting[0] += 1
        most[0] = max(most[0], waiting[0])
        future.add_done_callback(lambda _: waiting.__setitem__(0, waiting[0] - 1))
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    kept, lost = hash_items(items, workers=2)
    assert 0 < most[0] <= 300
    wanted = [hashlib.sha256(str(n % 8).encode()).hexdigest() for n in range(10_000) if n % 8 != 7]
    assert [item.key for item in kept] == wanted
    assert [item.group for item in kept] == [str(n) for n in range(10_000) if n % 8 != 7]
    assert len(lost) == 1250
    assert hash_items([]) == ([], [])


def test_hints_stay_and_are_not_written():
    hinted = replace(MANIFEST, hints=("did you mean y?",))
    assert replace(hinted, items=()).hints == hinted.hints
    assert hinted.to_csv() == MANIFEST.to_csv()
    assert hinted.sha256() == MANIFEST.sha256()


def test_an_empty_manifest_says_what_was_there():
    assert check_not_empty(MANIFEST) is MANIFEST
    with pytest.raises(DataError, match=r"No images found in x\. Skipped 1 files or folders, such as /5 \(hidden\)"):
        check_not_empty(replace(MANIFEST, items=()))
