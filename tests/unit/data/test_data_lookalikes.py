"""Near-duplicates are found whatever was done to them, and other pictures are not."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from regraft.data.alignment import Sketches, likeness
from regraft.data.lookalikes import THRESHOLD, clusters, near_duplicates, perceptual_hash
from regraft.data.neighbours import narrowed, nearest


def scene(seed, size=(240, 180), blobs=60):
    """A picture of coloured ellipses: no two seeds share a detail."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), rng.uniform(60, 200, 3))
    for _ in range(blobs):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        rx, ry = rng.uniform(4, 40, 2)
        pixels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = rng.uniform(0, 255, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def texture(seed, size=(240, 240)):
    """One woven pattern for all seeds, with noise of its own for each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[1], : size[0]]
    weave = 120 + 50 * np.sin(x * 2 * np.pi / 9) * np.sin(y * 2 * np.pi / 7)
    coarse = Image.fromarray(rng.uniform(0, 255, (14, 14)).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(weave + 0.2 * (np.asarray(coarse) - 128), 0, 255).astype(np.uint8)).convert("RGB")


def sketches(images):
    small = np.stack([np.asarray(i.convert("YCbCr").resize((64, 64), Image.Resampling.BICUBIC)) for i in images])
    colour = small[..., 1:].reshape(-1, 16, 4, 16, 4, 2).mean((2, 4))
    return Sketches(np.ascontiguousarray(small[..., 0]), np.rint(colour).astype(np.uint8))


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def cropped(image, share=0.05, *, left=True):
    width, height = image.size
    dx, dy = round(share * width), round(share * height)
    return image.crop((dx, dy, width, height) if left else (0, 0, width - dx, height - dy))


@pytest.mark.parametrize("kind", [scene, texture])
def test_changed_copies_are_found_and_nothing_else(kind):
    originals = [kind(seed) for seed in range(24)]
    copies = [
        jpeg(originals[0], 40),
        originals[1].resize((130, 97)),
        originals[2].resize((400, 300)),
        cropped(originals[3]),
        cropped(originals[4], left=False),
        cropped(jpeg(originals[5], 60)),
    ]
    found = near_duplicates(sketches([*originals, *copies]))
    assert {(pair.first, pair.second) for pair in found} == {(n, 24 + n) for n in range(6)}
    assert all(THRESHOLD <= pair.likeness <= 1 for pair in found)


def test_order_of_images_does_not_matter():
    images = [scene(seed) for seed in range(8)]
    images.append(cropped(images[2]))
    turned = images[::-1]
    (pair,), (other,) = near_duplicates(sketches(images)), near_duplicates(sketches(turned))
    assert (pair.first, pair.second) == (2, 8)
    assert (other.first, other.second) == (0, 6)


def test_features_bring_candidates_that_the_hash_misses():
    images = [scene(seed, blobs=8) for seed in range(40)]
    images.append(cropped(images[0]))
    features = np.random.default_rng(0).normal(size=(41, 16)).astype(np.float32)
    features[40] = features[0] + 0.01
    assert any((p.first, p.second) == (0, 40) for p in near_duplicates(sketches(images), features))


def test_another_colour_is_another_picture():
    image = scene(1)
    red = Image.merge(
        "RGB", [band.point(lambda v, s=s: int(v * s)) for band, s in zip(image.split(), (1, 0.3, 0.3), strict=True)]
    )
    grey = sketches([image.convert("L").convert("RGB")])
    both = sketches([image, red])
    same_light = Sketches(both.grey[[0]], both.colour[[1]])
    assert likeness(both.take(np.array([0])), same_light)[0] == 0
    assert 0.9 < likeness(grey, grey)[0] <= 1


def test_plain_pictures_have_no_details_to_agree_in():
    plain = sketches([Image.new("RGB", (80, 80), "white")])
    assert likeness(plain, plain)[0] == 0
    assert near_duplicates(sketches([Image.new("RGB", (80, 80), c) for c in ("white", "white", "grey")])) == ()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images(count):
    assert near_duplicates(sketches([scene(n) for n in range(2)]).take(np.arange(count))) == ()


def test_hash_is_the_discrete_cosine_transform():
    grey = sketches([scene(3), scene(4)]).grey
    expected = np.stack([dctn(g.astype(float), norm="ortho")[:8, :8].ravel()[1:] for g in grey])
    np.testing.assert_allclose(perceptual_hash(grey), expected, rtol=1e-3, atol=1e-2)


def test_nearest_agrees_with_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rows = np.random.default_rng(2).normal(size=(300, 20)).astype(np.float32)
    found, similar = nearest(rows, 4)
    distances, expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(rows).kneighbors(rows)
    np.testing.assert_array_equal(found, expected[:, 1:])
    np.testing.assert_allclose(similar, 1 - distances[:, 1:], atol=1e-5)
    assert nearest(rows[:3], 9)[0].shape == (3, 2)


def test_many_rows_are_narrowed_and_keep_their_neighbours(monkeypatch):
    import regraft.data.neighbours as module

    rng = np.random.default_rng(3)
    rows = (rng.normal(size=(400, 30)) @ rng.normal(size=(30, 300))).astype(np.float32)
    rows[1] = rows[0] + 0.01 * rng.normal(size=300)
    assert narrowed(rows) is rows
    monkeypatch.setattr(module, "_MANY", 100)
    narrow = narrowed(rows)
    assert narrow.shape == (400, 128)
    np.testing.assert_array_equal(nearest(narrow, 3)[0], nearest(rows, 3)[0])


def test_clusters_join_through_others():
    assert clusters(6, [(4, 5), (1, 4), (3, 2)]).tolist() == [0, 1, 2, 2, 1, 1]
