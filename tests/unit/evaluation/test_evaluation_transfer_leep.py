"""NCE against scikit-learn's mutual information; LEEP against its definition image by image."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from regraft.evaluation.transfer.leep import leep, nce


@pytest.fixture
def drawn():
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 4, 120)
    logits = generator.standard_normal((120, 9)) * 2
    logits[np.arange(120), targets * 2] += 2
    return logits, targets


def test_nce_is_mutual_information_less_the_entropy_of_the_labels(drawn):
    logits, targets = drawn
    source = logits.argmax(axis=1) * 100  # names of source classes do not matter, nor gaps between them
    wanted = mutual_info_score(targets, source) - mutual_info_score(targets, targets)
    assert nce(source, targets) == pytest.approx(wanted, abs=1e-12)
    assert nce(targets, targets) == 0
    assert nce(np.zeros(120, int), targets) == pytest.approx(-mutual_info_score(targets, targets))


def test_leep_is_its_definition(drawn):
    logits, targets = drawn
    source = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    total = 0.0
    for row, label in zip(source, targets, strict=True):
        likelihood = 0.0
        for z in range(9):
            joint = sum(source[i, z] for i in range(120) if targets[i] == label) / 120
            likelihood += row[z] * joint / (source[:, z].sum() / 120)
        total += np.log(likelihood)
    assert leep(logits, targets) == pytest.approx(total / 120, rel=1e-12)


def test_leep_of_a_source_that_is_sure_lies_at_nce(drawn):
    logits, targets = drawn
    sure = np.eye(9)[logits.argmax(axis=1)] * 2000.0
    assert leep(sure, targets) == pytest.approx(nce(logits.argmax(axis=1), targets), abs=1e-9)


def test_order_of_rows_and_shifts_of_logits_do_not_matter(drawn):
    logits, targets = drawn
    order = np.random.default_rng(1).permutation(120)
    assert leep(logits[order] + 5, targets[order]) == pytest.approx(leep(logits, targets), abs=1e-12)
    assert nce(logits.argmax(axis=1)[order], targets[order]) == pytest.approx(nce(logits.argmax(axis=1), targets))
    assert leep(logits[:, ::-1], 3 - targets) == pytest.approx(leep(logits, targets), abs=1e-12)
