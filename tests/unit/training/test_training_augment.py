"""Augmentation: a pure function of picture and seed, which leaves a picture of the right size."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from odd_images import picture
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import OptionError
from regraft.training.augment import PRESETS, augmentation

PREPROCESSING = Preprocessing((56, 48), 64, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "action_augmentation.yaml"
FRAME = np.array(picture(1, 2, (96, 64)))
NAMES = [*PRESETS[1:], str(EXAMPLE)]


def written(tmp_path, text):
    path = tmp_path / "augment.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_pure_function_of_picture_and_seed(name):
    augment = augmentation(name, PREPROCESSING)
    kept = FRAME.copy()
    first = augment(FRAME, 7)
    torch.rand(5)
    assert torch.equal(augment(FRAME, 7), first)
    assert torch.equal(pickle.loads(pickle.dumps(augment))(FRAME, 7), first)
    assert (first.shape, first.dtype) == ((3, 56, 48), torch.uint8)
    assert np.array_equal(FRAME, kept)
    assert len({augment(FRAME, seed).numpy().tobytes() for seed in range(30)}) > 25


@pytest.mark.parametrize("name", NAMES)
def test_nobody_elses_draws_are_touched(name):
    import random

    augment = augmentation(name, PREPROCESSING)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in range(20):
        augment(FRAME, seed)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002


@pytest.mark.parametrize("name", PRESETS[1:])
def test_presets_do_not_depend_on_the_number_of_threads(name, one_thread):
    large = Preprocessing((224, 224), 256, "shorter", "bicubic", (0.5,) * 3, (0.5,) * 3)
    augment, frame = augmentation(name, large), np.array(picture(1, 2, (341, 256)))
    alone = [augment(frame, seed) for seed in range(24)]
    torch.set_num_threads(2)
    assert all(torch.equal(augment(frame, seed), expected) for seed, expected in enumerate(alone))


def test_none_is_none():
    assert augmentation("none", PREPROCESSING) is None


def test_light_and_default_show_parts_of_the_picture_half_of_them_mirrored():
    """On a ramp, positions can be read from the colours: left to right in red, top to bottom in green."""
    height, width = 64, 96
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).round()
    ramp[..., 1] = np.linspace(0, 255, height).round()[:, None]
    augment = augmentation("light", PREPROCESSING)
    mirrored, areas = 0, []
    for seed in range(200):
        red, green = augment(ramp, seed)[0].float(), augment(ramp, seed)[1].float()
        mirrored += bool(red[:, 0].mean() > red[:, -1].mean())
        across, down = (red.amax() - red.amin()) / 255, (green.amax() - green.amin()) / 255
        assert torch.all(green.diff(dim=0) >= 0), "never upside down"
        areas.append(float(across * down))
    assert 70 < mirrored < 130
    # A portrait of 56 to 48 does not fill a landscape of 64 by 96: its height limits it.
    assert min(areas) > 0.5
    assert max(areas) < 0.75


def test_colours_change_mildly_and_stay_colours():
    grey = np.full((64, 96, 3), (120, 100, 140), np.uint8)
    shown = torch.stack([augmentation("default", PREPROCESSING)(grey, seed)[:, 9, 9] for seed in range(200)]).float()
    assert shown.std(dim=0).min() > 5
    assert (shown.mean(dim=0) - torch.tensor([120.0, 100.0, 140.0])).abs().max() < 8
    assert shown.min() >= 100 * 0.8 - 12
    assert shown.max() <= 140 * 1.2 + 12


def test_colours_are_torchvisions():
    from torchvision.transforms.v2 import functional

    from regraft.training.augment import _Colours, _drawing

    image = torch.from_numpy(FRAME // 4 + 96).permute(2, 0, 1)  # torchvision cuts off after each change
    for seed in range(12):
        with _drawing(seed):
            bright, contrast, colour = (1 + 0.3 * (2 * torch.rand(3) - 1)).tolist()
        expected = image.float() / 255
        for change, factor in (
            (functional.adjust_brightness, bright),
            (functional.adjust_contrast, contrast),
            (functional.adjust_saturation, colour),
        ):
            expected = change(expected, factor)
        with _drawing(seed):
            got = _Colours(0.3)(image)
        assert (got.float() - expected * 255).abs().max() < 0.6


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 3), (56, 48), (8, 8)])
def test_any_frame_will_do(name, size):
    frame = np.full((*size, 3), 99, np.uint8)
    assert augmentation(name, PREPROCESSING)(frame, 3).shape == (3, 56, 48)


def test_heavy_erases_now_and_then():
    white = np.full((64, 96, 3), 255, np.uint8)
    augment = augmentation("heavy", PREPROCESSING)
    erased = sum(bool((augment(white, seed) == 127).all(dim=0).sum() > 30) for seed in range(200))
    assert 20 < erased < 90


def test_a_file_is_what_torchvision_makes_of_it(tmp_path):
    name = written(
        tmp_path, "- RandomCrop: [[56, 48]]\n- RandomSolarize: {threshold: 100, p: 0.5}\n- RandomGrayscale\n"
    )
    steps = v2.Compose([v2.RandomCrop([56, 48]), v2.RandomSolarize(threshold=100, p=0.5), v2.RandomGrayscale()])
    for seed in range(10):
        torch.manual_seed(seed)
        expected = steps(torch.from_numpy(FRAME).permute(2, 0, 1))
        assert torch.equal(augmentation(name, PREPROCESSING)(FRAME, seed), expected)


def test_nested_transforms_and_interpolation(tmp_path):
    text = "- RandomApply: {p: 1.0, transforms: [{Resize: {size: [56, 48], interpolation: nearest}}]}"
    expected = v2.Resize([56, 48], v2.InterpolationMode.NEAREST)(torch.from_numpy(FRAME).permute(2, 0, 1))
    assert torch.equal(augmentation(written(tmp_path, text), PREPROCESSING)(FRAME, 0), expected)


def test_what_a_file_gives_is_brought_to_size_in_its_proportions(tmp_path):
    """A circle stays a circle."""
    y, x = np.mgrid[:64, :96]
    disc = np.repeat((((y - 32) ** 2 + (x - 48) ** 2 < 400) * 255).astype(np.uint8)[..., None], 3, 2)
    seen = augmentation(written(tmp_path, "- Resize: 32"), PREPROCESSING)(disc, 0)[0] > 127
    rows, columns = seen.any(dim=1).sum(), seen.any(dim=0).sum()
    assert abs(int(rows) - int(columns)) <= 1


def test_the_example_is_the_tutorials():
    import yaml

    assert yaml.safe_load(EXAMPLE.read_text("utf-8")) == [
        {"Resize": 112},
        {"RandomRotation": 45},
        {"GaussianBlur": 3},
        "RandomHorizontalFlip",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- RandomRotaton: 45\n", r"entry 1: 'RandomRotaton' is no transform .*did you mean RandomRotation"),
        ("- RandomGrayscale\n- Transform\n", r"entry 2: 'Transform' is no transform"),
        ("- Compose: {transforms: [Foo]}\n", r"entry 1, transforms, entry 1: 'Foo' is no transform"),
        ("- os.system: ls\n", "is no transform"),
        ("- InterpolationMode: nearest\n", "is no transform"),
        ("- !!python/object/apply:os.system [ls]\n", "cannot be read as YAML"),
        ("- RandomRotation\n", r"RandomRotation does not take None .*Expected RandomRotation\(degrees"),
        ("- RandomRotation: {degres: 3}\n", r"degres.*Expected RandomRotation\(degrees"),
        ("- GaussianBlur: 2\n", "GaussianBlur does not take 2 .*odd"),
        ("- Resize: {size: 8, interpolation: best}\n", "interpolation 'best' is unknown: use nearest, bilinear"),
        ("RandomRotation: 45\n", "holds {'RandomRotation': 45}; expected a list"),
        ("", "holds None; expected a list"),
        ("- {Resize: 8, RandomRotation: 45}\n", "entry 1 is .*expected one name"),
        ("- FiveCrop: 8\n", "gives tuple; expected a uint8 image"),
        ("- ToImage\n- ToDtype: {dtype: 5}\n", "augment.yaml"),
        ("- Grayscale\n", r"gives torch.uint8 \(1, 64, 64\)"),
        ("- CutMix: {num_classes: 3}\n", "do not work on a picture"),
        ("- RandomCrop: 9999\n", "do not work on a picture"),
        ("- [1\n", "cannot be read as YAML"),
    ],
)
def test_mistakes_in_a_file_are_named_at_once(tmp_path, text, words):
    with pytest.raises(OptionError, match=words) as caught:
        augmentation(written(tmp_path, text), PREPROCESSING)
    assert "augment.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_told_what_is_near():
    with pytest.raises(OptionError, match=r"'hevy' is neither of none, light, .* did you mean heavy"):
        augmentation("hevy", PREPROCESSING)


def test_fingerprint_changes_with_what_comes_out(tmp_path):
    from dataclasses import replace

    def fingerprint(name, preprocessing=PREPROCESSING):
        return augmentation(name, preprocessing).fingerprint()

    first = fingerprint(written(tmp_path, "- RandomRotation: 45 # degrees\n"))
    assert fingerprint(written(tmp_path, "# a remark\n- RandomRotation: 45\n")) == first
    others = [fingerprint(written(tmp_path, "- RandomRotation: 44\n")), *map(fingerprint, PRESETS[1:])]
    others += [fingerprint("light", replace(PREPROCESSING, size=(48, 56)))]
    others += [fingerprint("light", replace(PREPROCESSING, interpolation="bilinear"))]
    assert len({first, *others}) == 7
    assert fingerprint("light", replace(PREPROCESSING, mean=(0.1,) * 3)) == fingerprint("light")
