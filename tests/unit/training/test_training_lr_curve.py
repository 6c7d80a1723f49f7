import numpy as np
import pytest
from PIL import Image

from regraft.errors import CannotWrite
from regraft.training.lr_curve import both_ways, draw, smoothed, suggest

NAN = float("nan")


def quadratic(curvature, steps=100, low=1e-4, high=1e2):
    """SGD on 0.5 h w^2 from w = 1: w shrinks by |1 - rate h| a step, so it grows where the rate is above 2 / h."""
    rates, losses, w = np.geomspace(low, high, steps), [], 1.0
    with np.errstate(all="ignore"):
        for rate in rates:
            losses.append(0.5 * curvature * w * w)
            w -= rate * curvature * w
    return rates.tolist(), [float(loss) for loss in losses]


def falling(rates, at=1e-3):
    """A fall from 2.3 to 0.5 around `at`, then a cliff at a hundred times that."""
    logs = np.log10(rates / at)
    return 2.3 - 1.8 / (1 + np.exp(-4 * logs)) + np.exp(6 * (logs - 1.7))


@pytest.mark.parametrize("curvature", [0.1, 1, 10, 100])
@pytest.mark.parametrize("steps", [30, 100, 300])
def test_a_quadratic_is_not_trained_beyond_its_stability_limit(curvature, steps):
    found = suggest(*quadratic(curvature, steps))
    limit = 2 / curvature
    assert limit / 1000 < found.rate < limit / 2
    if found.diverges_at is not None:
        assert found.diverges_at > limit


def test_a_quadratic_that_explodes_is_said_to():
    rates, losses = quadratic(10, 100, high=1e1)
    first_above = next(r for r, loss in zip(rates, losses, strict=True) if r > 0.2 and loss > losses[0])
    assert suggest(rates, losses).diverges_at == pytest.approx(first_above, rel=0.4)


@pytest.mark.parametrize("at", [1e-5, 1e-3, 1e-2])
def test_the_rate_is_where_the_loss_falls_most_steeply(at):
    rates = np.geomspace(at / 1000, at * 1000, 100)
    found = suggest(rates, falling(rates, at))
    assert found.rate == pytest.approx(at, rel=0.15)
    assert 4 * at < found.lowest < 20 * at
    assert 50 * at < found.diverges_at < 150 * at
    assert f"most steeply at {found.rate:.2g}".replace("e-0", "e-") in found.why


@pytest.mark.parametrize("factor", [1e-6, 0.5, 3.0, 1e9])
def test_the_unit_of_the_loss_does_not_matter(factor):
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-6, 1, 80)
    losses = falling(rates) + 0.05 * rng.normal(size=80)
    assert suggest(rates, losses * factor) == suggest(rates, losses)


def test_noise_moves_the_rate_little():
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-6, 1, 60)
    found = [suggest(rates, falling(rates) + 0.2 * rng.normal(size=60)).rate for _ in range(100)]
    assert all(2e-4 < rate < 4e-3 for rate in found)
    assert 0.7e-3 < np.median(found) < 1.4e-3


def test_a_loss_that_never_falls_gives_no_rate():
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-6, 1, 60)
    answers = [suggest(rates, 2.3 + 0.1 * rng.normal(size=60)) for _ in range(100)]
    assert sum(answer.rate is None for answer in answers) >= 97
    for losses in (np.full(60, 0.7), np.linspace(0.7, 9, 60), np.zeros(60)):
        answer = suggest(rates, losses)
        assert (answer.rate, answer.lowest) == (None, None)
        assert "did not fall" in answer.why


@pytest.mark.parametrize("end", [NAN, float("inf"), 1e300])
def test_what_comes_after_the_explosion_does_not_matter(end):
    rates = np.geomspace(1e-6, 1, 60)
    losses = falling(rates)
    losses[45:] = end
    found = suggest(rates, losses)
    assert found.rate == pytest.approx(1e-3, rel=0.3)
    assert found.diverges_at == pytest.approx(rates[45], rel=0.01 if np.isnan(end) else 0.3)


def test_single_losses_that_are_no_number_are_passed_over():
    rates = np.geomspace(1e-6, 1, 60)
    losses = falling(rates)
    losses[[3, 20, 35]] = NAN
    assert suggest(rates, losses).rate == pytest.approx(1e-3, rel=0.3)


def test_three_points_are_enough_and_two_are_not():
    rates = [1e-4, 1e-3, 1e-2]
    found = suggest(rates, [1.0, 0.5, 0.9])
    assert (found.rate, found.lowest, found.diverges_at) == (pytest.approx(2.5e-4), 1e-3, None)
    assert "quarter" in found.why
    short = suggest(rates, [1.0, 0.5, NAN])
    assert (short.rate, short.diverges_at) == (None, 1e-2)
    assert "only 2 of 3 rates" in short.why
    assert suggest([], []).rate is None
    assert suggest(rates, [NAN] * 3).rate is None


def test_the_order_of_the_rates_does_not_matter_and_their_number_does():
    rates = np.geomspace(1e-6, 1, 60)
    order = np.random.default_rng(0).permutation(60)
    assert suggest(rates[order], falling(rates)[order]) == suggest(rates, falling(rates))
    with pytest.raises(ValueError, match="59 losses for 60 rates"):
        suggest(rates, falling(rates)[1:])


def test_a_curve_that_still_falls_says_so():
    rates = np.geomspace(1e-6, 1e-3, 40)
    assert "wider range" in suggest(rates, falling(rates)).why


def test_exponential_means_equal_their_definition():
    y, w = np.random.default_rng(0).normal(size=7), 0.8
    for i in range(7):
        weights = w ** np.arange(i, -1, -1.0)
        assert smoothed(y, w)[i] == pytest.approx(weights @ y[: i + 1] / weights.sum())
    assert both_ways(np.full(9, 3.25)) == pytest.approx(np.full(9, 3.25))
    line = np.arange(41.0)
    assert both_ways(line)[20] == pytest.approx(20)  # no lag
    assert both_ways(line[::-1])[20] == pytest.approx(20)


def picture(tmp_path, rates, losses):
    target = tmp_path / "curve.png"
    draw(rates, losses, suggest(rates, losses), target)
    with Image.open(target) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image).astype(int)


def columns_like(pixels, colour):
    return np.flatnonzero((np.abs(pixels - np.array(colour)).sum(axis=2) < 60).sum(axis=0) > 300)


def test_the_suggestion_is_marked_at_its_place(tmp_path):
    rates = np.geomspace(1e-6, 1, 100)
    pixels = picture(tmp_path, rates, falling(rates))
    marked = columns_like(pixels, (196, 78, 0)).mean()
    assert marked == pytest.approx(90 + 0.5 * (960 - 90 - 30), abs=8)  # 1e-3 is the middle of 1e-6..1
    assert not len(columns_like(picture(tmp_path, rates, np.full(100, 1.0)), (196, 78, 0)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rates", "losses"),
    [
        ([1e-4, 1e-3, 1e-2], [1.0, 0.5, 0.9]),
        ([1e-4], [1.0]),
        ([], []),
        ([1e-4, 1e-3, 1e-2], [NAN, NAN, NAN]),
        ([1e-4, 1e-4, 1e-4], [1.0, 0.5, 0.2]),
        ([1e-9, 1e-5, 10], [0.0, 0.0, 0.0]),
        (np.geomspace(1e-4, 1, 20).tolist(), [1.0] * 10 + [1e300] * 10),
        (np.geomspace(1e-4, 1, 20).tolist(), [-1.0] * 10 + [-3.0] * 10),
        (*quadratic(1),),
    ],
    ids=range(9),
)
def test_any_curve_is_drawn(tmp_path, rates, losses):
    pixels = picture(tmp_path, rates, losses)
    assert pixels.shape == (560, 960, 3)
    assert (pixels.sum(axis=2) < 500).any()


def test_a_picture_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="file"):
        draw([1e-3] * 3, [1.0] * 3, suggest([1e-3] * 3, [1.0] * 3), tmp_path / "file" / "curve.png")
