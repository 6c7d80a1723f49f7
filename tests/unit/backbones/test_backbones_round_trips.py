"""Networks of both zoos, saved as people save them, come back: recognised, loaded whole, with equal outputs.

What a network of one zoo computes with the tensors of the other is in test_checkpoints_translations.py.
`benchmarks/round_trips.py` prints the figures of the whole sweep.
"""

import pytest

from unit.backbones.round_trips import CLASSES, FORMS, OTHER_CLASSES, TIMM, TORCHVISION, round_trips

SMALL = [
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/squeezenet1_1",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/mnasnet0_5",
    "torchvision/regnet_y_400mf",
    "torchvision/efficientnet_b0",
    "timm/resnet10t",
    "timm/mobilenetv3_small_050",
    "timm/vit_tiny_patch16_224",
    "timm/edgenext_xx_small",
    "timm/convnext_zepto_rms",
]
WHOLE = [*TORCHVISION, *TIMM]


@pytest.fixture(scope="module")
def first():
    """Architecture -> for each form whether it was the first guess; filled by the sweep."""
    return {}


def _check_what_was_loaded(trips):
    assert [trip.form for trip in trips] == list(FORMS)
    assert [trip.problem for trip in trips if trip.problem] == []
    assert [(trip.form, trip.named) for trip in trips if not trip.place] == []
    assert [trip for trip in trips if not trip.loaded] == []


def test_the_lists_are_as_wide_as_promised():
    assert len(TORCHVISION) >= 80
    assert len(set(TIMM)) == len(TIMM) >= 60
    assert set(SMALL) <= set(WHOLE)


@pytest.mark.parametrize("architecture", SMALL)
def test_small_networks_in_every_form(architecture, tmp_path):
    trips, own = round_trips(architecture, tmp_path)
    _check_what_was_loaded(trips)
    assert own is not None
    assert own <= 1e-6
    for trip in trips:
        assert (trip.form, trip.place) == (trip.form, 1)
        assert trip.classes == (OTHER_CLASSES if trip.form == "head" else CLASSES)


@pytest.mark.nightly
@pytest.mark.parametrize("architecture", WHOLE)
def test_every_network_in_every_form(architecture, tmp_path, first):
    trips, own = round_trips(architecture, tmp_path)
    _check_what_was_loaded(trips)
    assert own is None or own <= 1e-6
    first[architecture] = [trip.place == 1 for trip in trips]


@pytest.mark.nightly
def test_at_least_95_per_cent_are_named_first(first):
    if len(first) < len(WHOLE):
        pytest.skip("needs the whole sweep before it")
    told = [right for forms in first.values() for right in forms]
    assert sum(told) / len(told) >= 0.95
    assert sum(all(forms) for forms in first.values()) / len(first) >= 0.95
