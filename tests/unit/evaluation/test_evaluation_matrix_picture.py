import numpy as np
import pytest

from regraft.evaluation.report.matrix_picture import MOST_NAMED, matrix_picture

BLUE, ORANGE = np.array([0, 102, 170]), np.array([196, 78, 0])


def pixels(matrix, names=None):
    matrix = np.asarray(matrix)
    page = matrix_picture(matrix, names or [f"class {i}" for i in range(len(matrix))])
    assert page.mode == "RGB"
    return np.asarray(page).astype(int)


def near(page, colour):
    return np.argwhere(np.abs(page - colour).sum(axis=2) < 12)


def test_right_answers_are_blue_on_the_diagonal_and_wrong_ones_orange():
    page = pixels([[4, 0, 0], [0, 0, 4], [0, 0, 4]])
    blue, orange = near(page, BLUE), near(page, ORANGE)
    # full rows: two right (top left and bottom right) and one wrong (middle row, last column), 48 pixels a cell
    assert np.ptp(blue, axis=0).tolist() == pytest.approx([3 * 48 - 2] * 2, abs=1)
    assert np.ptp(orange, axis=0).tolist() == pytest.approx([46, 46], abs=1)
    assert orange[:, 0].min() > blue[:, 0].min()
    assert orange[:, 1].max() == blue[:, 1].max()


def test_shades_are_shares_of_the_row():
    page = pixels(np.array([[30, 10], [1, 3]]) * 10)  # 3/4 and 1/4 of each row
    inside = page[16 + 22 + 190 :, 16 + 190 :]
    shares = [[inside[48 * r + 3, 48 * c + 3] for c in (0, 1)] for r in (0, 1)]
    assert (shares[0][0] == shares[1][1]).all()
    assert (shares[0][1] == shares[1][0]).all()
    assert shares[0][0].sum() < shares[0][1].sum()  # more is darker


@pytest.mark.parametrize("count", [1, 2, 40, 60, MOST_NAMED, MOST_NAMED + 1, 300, 1000, 2500])
def test_any_number_of_classes_is_drawn(count):
    matrix = np.eye(count, dtype=np.int64) * 3
    page = pixels(matrix)
    assert max(page.shape) < 1350
    assert len(near(page, BLUE)) >= min(count, 1000) // 4


def test_names_are_whole_or_cut_and_of_any_script():
    plain = pixels(np.eye(3, dtype=int), [" ", " ", " "])
    named = pixels(np.eye(3, dtype=int), ["W" * 300, "猫\udcff", "b\nc"])
    assert plain.shape == named.shape
    changed = np.argwhere(np.abs(plain - named).sum(axis=2) > 60)
    assert len(changed) > 100
    assert not len(changed[(changed[:, 0] > 228) & (changed[:, 1] > 206)])  # none inside the cells


def test_a_matrix_of_nothing_is_drawn():
    page = pixels(np.zeros((4, 4), int))
    assert not len(near(page, BLUE))
    assert not len(near(page, ORANGE))
