"""Numbers in names against the order in which a file lists them."""

import random

import pytest
import torch
import torchvision

from regraft.checkpoints.structure.order import by_number


def test_files_that_sort_their_keys_are_put_back_in_order():
    names = [f"net.{i}.{kind}" for i in range(12) for kind in ("weight", "bias")]
    found = by_number(sorted(names))
    assert [name.split(".")[1] for name in found] == [name.split(".")[1] for name in names]
    assert set(found) == set(names)


def test_numbered_arrays_are_put_back_in_order():
    names = [f"arr_{i}" for i in range(25)]
    assert by_number(sorted(names)) == names


def test_numbers_inside_words_count_and_other_words_keep_their_places():
    names = ["stem", "block10a.w", "block2a.w", "block2b.w", "end.w"]
    assert by_number(names) == ["stem", "block2a.w", "block2b.w", "block10a.w", "end.w"]


@pytest.mark.parametrize("seed", range(5))
def test_random_words_keep_the_files_order(seed):
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdef0123456789", k=8)) for _ in range(50)]
    assert by_number(words) == words


@pytest.mark.parametrize(
    "name", ["resnet18", "densenet121", "mobilenet_v3_small", "swin_t", "convnext_tiny", "vgg11_bn"]
)
def test_the_order_of_definition_is_kept(name):

    with torch.device("meta"):
        names = list(torchvision.models.get_model(name, weights=None).state_dict())
    assert by_number(names) == names


def test_a_tensor_and_a_module_may_share_a_name():
    assert by_number(["a", "a.b", "a.a"]) == ["a", "a.b", "a.a"]
