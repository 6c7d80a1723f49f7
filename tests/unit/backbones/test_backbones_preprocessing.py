import json

import numpy as np
import pytest
from PIL import Image

from odd_images import picture
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import OptionError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(96, 72), (72, 96), (200, 150), (500, 375), (375, 500), (343, 496), (357, 500), (64, 64), (31, 257), (90, 7)]


def make(size=(56, 56), resize=64, mode="shorter", interpolation="bicubic"):
    return Preprocessing(size, resize, mode, interpolation, MEAN, STD)


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def torchvision_says(image, *steps):
    pytest.importorskip("torchvision")
    from torchvision.transforms import Compose

    return np.asarray(Compose(steps)(image)).astype(int)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("resize", "crop"), [(64, 56), (65, 56), (59, 56), (56, 56), (40, 56), (64, 57)])
def test_shorter_is_torchvisions_resize_and_centre_crop(interpolation, resize, crop):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    preprocess = make((crop, crop), resize, interpolation=interpolation)
    steps = Resize(resize, InterpolationMode(interpolation)), CenterCrop(crop)
    for seed, size in enumerate(SIZES):
        # Photographs are smooth; on noise every rounding shows, and the order of Pillow's passes most of all.
        image = picture(0, seed, size)
        difference = np.abs(preprocess(image) - torchvision_says(image, *steps))
        assert difference.mean() < 0.04, size
        assert difference.max() <= 2, size


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (40, 24)])
def test_crops_that_are_not_square(size):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    image = picture(1, 1, (150, 110))
    expected = torchvision_says(image, Resize(60, InterpolationMode.BICUBIC), CenterCrop(size))
    got = make(size, 60)(image)
    assert got.shape == (*size, 3)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.shared
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_real_photographs_differ_from_torchvision_by_a_grey_level_at_most(shared_data, interpolation):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    steps = Resize(256, InterpolationMode(interpolation)), CenterCrop(224)
    preprocess = make((224, 224), 256, interpolation=interpolation)
    for file in sorted((shared_data / "hymenoptera").rglob("*.jpg"))[:24]:
        image = Image.open(file).convert("RGB")
        difference = np.abs(preprocess(image) - torchvision_says(image, *steps))
        assert difference.mean() < 0.01
        assert difference.max() <= 1


@pytest.mark.parametrize(("size", "resize"), [((56, 56), 56), ((48, 64), 48), ((57, 57), 60)])
def test_squash_is_timms(size, resize):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    frame = [side * resize // min(size) for side in size]
    steps = Resize(frame, InterpolationMode.BICUBIC), CenterCrop(size)
    for seed, shape in enumerate(SIZES):
        image = picture(1, seed, shape)
        difference = np.abs(make(size, resize, "squash")(image) - torchvision_says(image, *steps))
        assert difference.mean() < 0.35
        assert difference.max() <= (0 if resize == min(size) else 6)


@pytest.mark.parametrize(("size", "resize"), [((56, 56), 56), ((48, 64), 48), ((56, 56), 60)])
def test_pad_is_timms_border(size, resize):
    from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio

    frame = [side * resize // min(size) for side in size]
    fill = [round(255 * m) for m in MEAN]
    steps = ResizeKeepRatio(frame, interpolation="bicubic", longest=1.0), CenterCropOrPad(size, fill=fill)
    for seed, shape in enumerate(SIZES):
        image = picture(2, seed, shape)
        difference = np.abs(make(size, resize, "pad")(image) - torchvision_says(image, *steps))
        assert difference.mean() < 0.02
        assert difference.max() <= 1


def test_pad_shows_the_whole_image_on_the_mean_colour():
    seen = make((40, 40), 40, "pad")(Image.new("RGB", (80, 20), (255, 0, 0)))
    assert seen[15:25].reshape(-1, 3).tolist() == [[255, 0, 0]] * 400
    assert seen[:15].reshape(-1, 3).tolist() == [[round(255 * m) for m in MEAN]] * 600


def test_nearest_takes_existing_colours_only():
    image = noise(50, 40)
    colours = {tuple(c) for c in np.asarray(image).reshape(-1, 3).tolist()}
    assert {tuple(c) for c in make(interpolation="nearest")(image).reshape(-1, 3).tolist()} <= colours


@pytest.mark.parametrize("mode", ["shorter", "squash", "pad"])
def test_mirrored_and_turned_images_give_mirrored_and_turned_results(mode):
    preprocess = make((56, 56), 60, mode)
    for size in ((120, 92), (92, 120), (300, 88)):  # what is left to crop or pad is even
        image = picture(3, 4, size)
        straight = preprocess(image).astype(int)
        mirrored = preprocess(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
        upside_down = preprocess(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM))
        assert np.abs(straight[:, ::-1] - mirrored).max() <= 2
        assert np.abs(straight[::-1] - upside_down).max() <= 2
        assert np.abs(straight.transpose(1, 0, 2) - preprocess(image.transpose(Image.Transpose.TRANSPOSE))).max() <= 8


@pytest.mark.parametrize("mode", ["shorter", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (20_000, 3), (3, 20_000), (300_000, 1), (1, 300_000)])
def test_needles_and_specks(mode, size):
    seen = make((56, 48), 64, mode)(Image.new("RGB", size, (10, 200, 30)))
    assert (seen.shape, seen.dtype) == ((56, 48, 3), np.uint8)
    assert (seen == (10, 200, 30)).all(axis=2).any()


def test_constant_images_stay_constant_and_the_result_can_be_written_to():
    for mode, resize in (("shorter", 64), ("squash", 60)):
        seen = make(mode=mode, resize=resize)(Image.new("RGB", (123, 77), (1, 2, 3)))
        assert np.unique(seen.reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]
        seen[0, 0] = 0


def test_only_rgb_is_taken():
    for way in (make(), make().frame):
        with pytest.raises(OptionError, match="mode 'L'"):
            way(Image.new("L", (9, 9)))


def centre_of(frame, size, fill):
    """The centre crop of a frame, as torchvision cuts it; what is too small stands on the fill colour."""
    for axis, crop in enumerate(size):
        length = frame.shape[axis]
        if length < crop:
            before = (crop - length) // 2
            padding = [(0, 0)] * 3
            padding[axis] = (before, crop - length - before)
            channels = [np.pad(frame[..., c : c + 1], padding, constant_values=fill[c]) for c in range(3)]
            frame = np.concatenate(channels, axis=2)
        else:
            begin = round((length - crop) / 2.0)
            frame = frame.take(range(begin, begin + crop), axis)
    return frame


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("mode", ["shorter", "squash", "pad"])
@pytest.mark.parametrize(
    ("size", "resize"), [((56, 56), 64), ((56, 56), 65), ((48, 57), 60), ((57, 48), 48), ((56, 56), 40), ((40, 90), 41)]
)
def test_the_frames_centre_is_what_is_seen(mode, interpolation, size, resize):
    preprocess = make(size, resize, mode, interpolation)
    fill = [round(255 * m) for m in MEAN] if mode == "pad" else (0, 0, 0)
    for seed, shape in enumerate(SIZES):
        image = picture(0, seed, shape)
        frame = preprocess.frame(image)
        assert frame.dtype == np.uint8
        difference = np.abs(centre_of(frame, size, fill).astype(int) - preprocess(image))
        assert (difference > 2).mean() < 0.01, shape
        assert difference.mean() < 0.4, shape  # Pillow may take the passes of a whole in another order


def test_frames_are_the_resized_image_cut_at_twice_its_shorter_side():
    shapes = {
        size: make((56, 56), 64).frame(noise(*size)).shape for size in [(200, 150), (150, 200), (500, 100), (9, 300)]
    }
    assert shapes == {
        (200, 150): (64, 85, 3),
        (150, 200): (85, 64, 3),
        (500, 100): (64, 128, 3),
        (9, 300): (128, 64, 3),
    }
    for mode in ("squash", "pad"):
        assert make((56, 48), 60, mode).frame(noise(200, 150)).shape == (70, 60, 3)


def test_shorter_frames_are_torchvisions_resize():
    from torchvision.transforms import InterpolationMode, Resize

    for seed, size in enumerate([(96, 72), (72, 96), (200, 150), (64, 64)]):
        image = picture(0, seed, size)
        expected = torchvision_says(image, Resize(48, InterpolationMode.BICUBIC))
        assert np.abs(make((40, 40), 48).frame(image) - expected).max() <= 2


def test_normalise_is_torchvisions():
    from torchvision.transforms import Compose, Normalize, ToTensor

    batch = np.stack([np.asarray(picture(k, 0, (20, 16))) for k in range(3)])
    expected = [Compose([ToTensor(), Normalize(MEAN, STD)])(Image.fromarray(i)).numpy() for i in batch]
    got = make().normalise(batch)
    assert (got.shape, got.dtype) == ((3, 3, 16, 20), np.float32)
    assert got.flags.c_contiguous
    assert np.abs(got - np.stack(expected)).max() < 1e-6


def test_at_least_is_twice_what_is_resized_to():
    assert make((224, 224), 256).at_least() == 512
    assert make((384, 320), 300, "squash").at_least() == 768


def test_json_round_trip_and_fingerprint():
    preprocess = make((48, 64))
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocess.to_dict())))
    assert again == preprocess
    assert again.fingerprint() == preprocess.fingerprint()
    others = [make((64, 48)), make((48, 64), 65), make((48, 64), mode="pad"), make((48, 64), interpolation="bilinear")]
    assert len({p.fingerprint() for p in [preprocess, *others]}) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"interpolation": "cubic"}, "nearest, bilinear, bicubic, lanczos"),
        ({"mode": "crop"}, "shorter, squash, pad"),
        ({"size": (224,)}, "height and width"),
        ({"size": (224, 0)}, "above 0"),
        ({"size": (224.0, 224.0)}, "integers"),
        ({"resize": 0}, "above 0"),
        ({"mean": (0.5, 0.5)}, "three"),
        ({"mean": (0.5, 0.5, float("nan"))}, "finite"),
        ({"std": (0.5, 0.5, 0.0)}, "above 0"),
        ({"std": "abc"}, "wrong type"),
        ({"colour": 1}, "another version"),
    ],
)
def test_values_that_make_no_sense_are_named(change, words):
    with pytest.raises(OptionError, match=words):
        Preprocessing.from_dict({**make().to_dict(), **change})
