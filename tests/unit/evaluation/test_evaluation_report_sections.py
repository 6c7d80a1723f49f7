import numpy as np
import pytest

from regraft.data.manifest import Skipped
from regraft.evaluation.metrics import evaluate
from regraft.evaluation.predictions import Predictions
from regraft.evaluation.report.sections import (
    by_reason,
    confused_pairs,
    gallery,
    matrix,
    part_sizes,
    weakest_first,
)
from regraft.evaluation.report.text import duration, file_name, printable, value_text


def predicted(targets, probabilities, classes=None):
    n, k = np.shape(probabilities)
    return Predictions(
        paths=tuple(f"folder/{i}.jpg" for i in range(n)),
        keys=tuple("0" * 64 for _ in range(n)),
        classes=tuple(classes or "abcdefghij"[:k]),
        targets=np.array(targets),
        logits=np.log(np.array(probabilities)),
    )


def test_gallery_has_the_most_confident_mistake_first_and_the_surest_right_one():
    found = gallery(predicted([0, 0, 1, 1, -1], [[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.05, 0.95], [0.99, 0.01]]))
    assert [card.file for card in found.wrong] == ["1.jpg", "0.jpg"]
    assert [card.file for card in found.sure] == ["3.jpg", "2.jpg"]
    assert (found.wrong_total, found.right_total, found.unsure) == (2, 2, ())
    assert "folder/4.jpg" not in found.paths()


def test_gallery_keeps_to_its_size_and_shows_no_image_twice():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), size=300)
    found = gallery(predicted(rng.integers(0, 4, 300), probabilities))
    assert (len(found.wrong), len(found.sure), len(found.unsure)) == (24, 4, 8)
    assert len(set(found.paths())) == 36
    sure = [card.bars[0].probability for card in found.sure]
    unsure = [card.bars[0].probability for card in found.unsure]
    assert sure == sorted(sure, reverse=True)
    assert unsure == sorted(unsure)
    assert min(sure) > max(unsure)


def test_card_shows_three_classes_and_the_true_one():
    (card,) = gallery(predicted([4], [[0.5, 0.3, 0.15, 0.04, 0.01]])).wrong
    assert [(bar.name, bar.role) for bar in card.bars] == [("a", "said"), ("b", ""), ("c", ""), ("e", "true")]
    assert [bar.probability for bar in card.bars] == pytest.approx([0.5, 0.3, 0.15, 0.01])
    (right,) = gallery(predicted([0], [[0.5, 0.3, 0.2]])).sure
    assert [bar.role for bar in right.bars] == ["both", "", ""]


def test_matrix_shades_by_share_of_the_row():
    result = evaluate(predicted([0] * 10 + [1] * 4, [[0.9, 0.1]] * 8 + [[0.1, 0.9]] * 6), split="val")
    rows = matrix(result)
    assert [[cell.count for cell in row.cells] for row in rows] == [[8, 2], [0, 4]]
    assert [[cell.style for cell in row.cells] for row in rows] == [["d s8", "e s2"], ["z", "d s10"]]
    assert rows[0].cells[1].title == "a: 2 of 10 taken for b"


def test_matrix_of_very_many_classes_is_left_to_the_pairs():
    eye = np.eye(61) + 1e-3
    result = evaluate(predicted([0, 1, 2, 2], eye[[0, 2, 3, 3]], [f"c{i}" for i in range(61)]), split="val")
    assert matrix(result) == ()
    assert [(p.true, p.said, p.count, p.share) for p in confused_pairs(result)] == [
        ("c2", "c3", 2, 1.0),
        ("c1", "c2", 1, 1.0),
    ]


def test_pairs_are_ordered_by_count_then_by_share():
    targets = [0] * 10 + [1] * 2 + [2] * 5
    said = [1] + [0] * 9 + [2, 1] + [0, 0, 2, 2, 2]
    result = evaluate(predicted(targets, (np.eye(3) + 1e-3)[said]), split="val")
    assert [(p.true, p.said, p.count) for p in confused_pairs(result)] == [
        ("c", "a", 2),
        ("b", "c", 1),
        ("a", "b", 1),
    ]


def test_classes_are_listed_weakest_first_and_unseen_last():
    result = evaluate(predicted([0, 0, 1, 1], (np.eye(3) + 1e-3)[[0, 1, 1, 1]]), split="val")
    assert [score.name for score in weakest_first(result)] == ["a", "b", "c"]


def test_files_are_grouped_by_reason():
    files = [Skipped("x", "hidden"), *(Skipped(f"{i}", "empty") for i in range(20))]
    first, second = by_reason(files)
    assert (first.reason, first.count, first.examples[:2]) == ("empty", 20, ("0", "1"))
    assert len(first.examples) == 8
    assert (second.reason, second.count) == ("hidden", 1)


def test_parts_tell_their_smallest_and_largest_class():
    (train,) = part_sizes({"train": {"a": 3, "b": 9}, "test": {}})
    assert (train.images, train.smallest, train.largest) == (12, ("a", 3), ("b", 9))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("猫 é 🐝", "猫 é 🐝"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud83d", r"\ud83d"),
        ("a\u202eb\x00\x9f", r"a\u202eb\x00\x9f"),
        ("line\nand\ttab", "line\nand\ttab"),
    ],
)
def test_printable_writes_out_what_cannot_be_shown(text, shown):
    assert printable(text) == shown
    printable(text).encode("utf-8")


def test_file_name_of_either_system():
    assert file_name("/a/b/c.jpg") == file_name(r"C:\a\c.jpg") == "c.jpg"


def test_numbers_are_written_for_people():
    assert [duration(s) for s in (0.0042, 0.31, 2.84, 12.54, 125.2)] == [
        "0.004 s",
        "0.31 s",
        "2.84 s",
        "12.5 s",
        "2 min 05 s",
    ]
    values = (0.123456, 1e-5, 7, True, None, [0.5, "x"], {"a": 1.0})
    assert [value_text(v) for v in values] == ["0.1235", "1e-05", "7", "yes", "–", "0.5, x", "a: 1"]
