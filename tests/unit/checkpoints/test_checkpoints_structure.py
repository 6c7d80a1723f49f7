"""Matching by structure: whole networks under random names, and never a wrong tensor in a shuffled one."""

import gc
import itertools
import random
import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from regraft.checkpoints.structure.align import Alignment, Slot, align, slots

HEADS = {"resnet": "fc", "vgg": "classifier.6", "mobilenet": "classifier.3", "efficientnet": "classifier.1"}
WANTED = [
    "timm/resnet18", "timm/resnet34", "timm/resnet50", "timm/vgg16", "timm/mobilenetv3_small_100",
    "timm/mobilenetv3_large_100", "timm/efficientnet_b0", "timm/vit_small_patch16_224", "timm/densenet121",
    "torchvision/resnet18", "torchvision/resnet34", "torchvision/resnet50", "torchvision/vgg16",
    "torchvision/mobilenet_v3_small", "torchvision/mobilenet_v3_large", "torchvision/efficientnet_b0",
    "torchvision/densenet121",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _collected(one_thread):
    yield
    gc.collect()


def _network(name, classes=1000, **options):
    """A network of one of the zoos; without classifier if there are no classes."""
    zoo, _, name = name.partition("/")
    if zoo == "timm":
        return timm.create_model(name, num_classes=classes, **options).eval()
    quick = {"init_weights": False} if name.startswith("vgg") else {}
    network = torchvision.models.get_model(name, weights=None, num_classes=classes or 1, **quick).eval()
    if not classes:
        _cut(network, name)
    return network


def _cut(network, name):
    """Remove the classifier."""
    if isinstance(network, torchvision.models.DenseNet):
        network.classifier = nn.Identity()
    elif hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    else:
        path = next(path for family, path in HEADS.items() if name.startswith(family))
        network.set_submodule(path, nn.Identity())


def _stirred(network, seed=0):
    """Make every number of a network its own, so that no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + torch.randn(tensor.shape, generator=generator) / 10)
            tensor.add_(torch.randn(tensor.shape, generator=generator) / 1000)
    return network


def _scrambled(state, seed=0):
    """Each name replaced by a random word, the order kept."""
    rng = random.Random(seed)
    return {"".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=10)): t for t in state.values()}


def _align(file, network, **options) -> Alignment:
    return align(slots(file), slots(network.state_dict()), values=file.__getitem__, **options)


def _load(alignment, file, network):
    state = network.state_dict()
    for name, word in alignment.pairs.items():
        state[name].copy_(file[word])


@torch.inference_mode()
def _same_outputs(one, other, side=64):
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    return torch.equal(one(images), other(images))


@pytest.mark.parametrize("name", WANTED)
def test_a_network_under_random_words_is_loaded_completely_and_rightly(name):
    source = _stirred(_network(name, classes=13))
    file = _scrambled(source.state_dict())
    target = _network(name, classes=0)
    alignment = _align(file, target)
    assert (list(alignment.pairs), alignment.complete) == (list(target.state_dict()), True)
    assert alignment.reason == "The file has 2 tensors more at its end, probably its head."
    _load(alignment, file, target)
    _cut(source, name.partition("/")[2])
    assert _same_outputs(source, target, 224 if "vit" in name else 64)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenetv3_small_100"])
def test_a_freshly_initialised_network_without_counters_is_loaded(name):
    source = _network(f"timm/{name}")
    file = _scrambled({k: t for k, t in source.state_dict().items() if "num_batches" not in k})
    target = _network(f"timm/{name}", classes=0)
    alignment = _align(file, target)
    assert alignment.complete
    assert set(target.state_dict()) - set(alignment.pairs) == {k for k in target.state_dict() if "num_batches" in k}
    _load(alignment, file, target)
    source.reset_classifier(0)
    assert _same_outputs(source, target)


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_another_number_of_input_channels_is_paired_for_the_caller_to_adapt(channels):
    source = _stirred(_network("timm/resnet18", in_chans=channels)).state_dict()
    file = _scrambled(source)
    alignment = _align(file, _network("timm/resnet18", classes=0))
    assert alignment.complete
    assert tuple(file[alignment.pairs["conv1.weight"]].shape) == (64, channels, 7, 7)
    assert all(torch.equal(file[word], source[k]) for k, word in alignment.pairs.items())


def test_position_embeddings_of_another_length_are_paired_for_the_caller_to_adapt():
    source = _network("timm/vit_tiny_patch16_224", img_size=256)
    file = _scrambled(source.state_dict())
    alignment = _align(file, _network("timm/vit_tiny_patch16_224", classes=0))
    assert alignment.complete
    assert tuple(file[alignment.pairs["pos_embed"]].shape) == (1, 257, 192)


def test_extra_layers_in_the_middle_are_left_out():
    source = torchvision.models.inception_v3(weights=None, init_weights=False).state_dict()
    wanted = {k: t for k, t in source.items() if not k.startswith(("AuxLogits", "fc"))}
    file = _scrambled(source)
    alignment = align(slots(file), slots(wanted), values=file.__getitem__)
    assert (alignment.complete, set(alignment.pairs)) == (True, set(wanted))
    assert all(torch.equal(file[word], source[name]) for name, word in alignment.pairs.items())


# What belongs together: a layer's tensors, a block's, a stage's.
GROUPS = {
    "layer": lambda name: name.rpartition(".")[0],
    "block": lambda name: re.sub(
        r"^((?:layer|blocks\.|features\.\w+?)\.?\d+(?:\.(?:\d+|\w*layer\d+))?)\..*", r"\1", name
    ),
    "stage": lambda name: re.sub(r"^((?:layer|blocks\.|features\.denseblock)\d+)\..*", r"\1", name),
}


def _shuffled(state, how, seed):
    """The order shuffled inside layers, inside blocks or inside stages, or blocks of a stage among themselves."""
    rng = random.Random(seed)
    groups = {}
    for name in state:
        groups.setdefault(GROUPS["block" if how == "blocks" else how](name), []).append(name)
    if how == "blocks":
        stages = {}
        for block in groups:
            stages.setdefault(GROUPS["stage"](block + ".x"), []).append(block)
        order = [block for blocks in stages.values() for block in rng.sample(blocks, len(blocks))]
        names = [name for block in order for name in groups[block]]
    else:
        names = [name for group in groups.values() for name in rng.sample(group, len(group))]
    return {name: state[name] for name in names}


@pytest.mark.parametrize("stirred", [True, False])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "densenet121", "vit_tiny_patch16_224"])
def test_a_shuffled_file_is_refused_or_gives_equal_outputs(name, stirred):
    source = _network(f"timm/{name}")
    state = (_stirred(source) if stirred else source).state_dict()
    target = _network(f"timm/{name}", classes=0)
    refused = 0
    for how, seed in itertools.product(["layer", "block", "stage", "blocks"], range(6)):
        shuffled = _shuffled(state, how, seed)
        if list(shuffled) == list(state) or (how == "blocks" and _same_shapes(shuffled, state)):
            continue  # equal blocks that changed places are another file of the same architecture: nothing can tell
        file = _scrambled(shuffled, seed)
        alignment = _align(file, target)
        refused += not alignment.pairs
        for key, word in alignment.pairs.items():
            assert torch.equal(file[word], state[key]), (how, seed, key)
        assert bool(alignment.pairs) or alignment.reason
    assert refused >= 15


def _same_shapes(one, other):
    return [t.shape for t in one.values()] == [t.shape for t in other.values()]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[1:])
def test_a_batchnorms_vectors_in_another_order_are_refused_or_do_no_harm(order):
    """Shapes cannot tell these; a freshly initialised network's ones and zeros can, where it matters."""
    source = _network("timm/resnet18")
    kinds = ["weight", "bias", "running_mean", "running_var"]
    norm = "layer2.0.bn1."
    state = source.state_dict()
    names = [
        norm + kinds[order[kinds.index(k.removeprefix(norm))]] if k.removeprefix(norm) in kinds else k for k in state
    ]
    file = _scrambled({name: state[name] for name in names})
    target = _network("timm/resnet18", classes=0)
    alignment = _align(file, target)
    if not alignment.pairs:
        assert norm in alignment.reason
        return
    _load(alignment, file, target)
    source.reset_classifier(0)
    assert _same_outputs(source, target)


def test_a_deeper_file_is_ambiguous_and_loaded_only_on_demand():
    source = _stirred(_network("timm/resnet101"))
    file = _scrambled(source.state_dict())
    target = _network("timm/resnet50", classes=0)
    refused = _align(file, target)
    assert (refused.ambiguous, refused.pairs) == (True, {})
    assert "equally good" in refused.reason
    allowed = _align(file, target, allow_ambiguous=True)
    assert (allowed.ambiguous, allowed.complete) == (True, True)
    for name, word in allowed.pairs.items():
        assert torch.equal(file[word], source.state_dict()[name])


def test_a_shallower_file_is_ambiguous():
    file = _scrambled(_network("timm/resnet18").state_dict())
    alignment = _align(file, _network("timm/resnet34", classes=0))
    assert (alignment.ambiguous, alignment.pairs) == (True, {})


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("head", [True, False])
def test_a_file_without_its_last_stage_fills_exactly_the_rest(name, head):
    source = _stirred(_network(f"timm/{name}")).state_dict()
    left = {k: t for k, t in source.items() if not k.startswith("layer4" if head else ("layer4", "fc"))}
    file = _scrambled(left)
    target = _network(f"timm/{name}", classes=0)
    alignment = _align(file, target)
    assert set(alignment.pairs) == {k for k in target.state_dict() if not k.startswith("layer4")}
    assert all(torch.equal(file[word], source[key]) for key, word in alignment.pairs.items())
    assert not alignment.complete
    lost = sum(k.startswith("layer4") and "num_batches" not in k for k in source)
    assert f"none for {lost} tensors of the network, from layer4.0.conv1.weight on" in alignment.reason


def test_a_missing_block_among_equals_is_ambiguous():
    left = {k: t for k, t in _network("timm/resnet50").state_dict().items() if not k.startswith("layer3.2.")}
    alignment = _align(_scrambled(left), _network("timm/resnet50", classes=0))
    assert (alignment.ambiguous, alignment.pairs) == (True, {})


def test_stages_of_swapped_widths_are_never_taken_for_each_other():
    widths = {"source": (8, 32, 16, 64), "target": (8, 16, 32, 64)}
    nets = {k: nn.Sequential(*[nn.Conv2d(a, b, 3) for a, b in itertools.pairwise((3, *w))]) for k, w in widths.items()}
    file = _scrambled(nets["source"].state_dict())
    alignment = _align(file, nets["target"])
    state = nets["target"].state_dict()
    assert all(file[word].shape == state[key].shape for key, word in alignment.pairs.items())
    assert set(alignment.pairs) <= {"0.weight", "0.bias"}


@pytest.mark.parametrize(
    ("source", "target"),
    [("resnet50", "seresnet50"), ("seresnet50", "resnet50"), ("resnet50", "wide_resnet50_2"),
     ("resnet18", "vit_tiny_patch16_224"), ("resnet50", "resnet18"), ("efficientnet_b0", "mobilenetv3_large_100")],
)  # fmt: skip
def test_another_architecture_is_refused(source, target):
    with torch.device("meta"):
        file = _scrambled(_network(f"timm/{source}").state_dict())
        wanted = slots(_network(f"timm/{target}", classes=0).state_dict())
    alignment = align(slots(file), wanted)
    assert (alignment.pairs, alignment.complete) == ({}, False)
    assert alignment.reason.endswith(".")


@pytest.mark.parametrize("order", ["as built", "sorted", "parameters before buffers"])
def test_an_unknown_naming_that_tells_modules_is_aligned_in_any_order(order):
    source = _stirred(_network("torchvision/mobilenet_v2")).state_dict()
    state = {k.replace("features", "body.l").replace("conv", "part"): t for k, t in source.items()}
    keys = sorted(state) if order == "sorted" else list(state)
    if order == "parameters before buffers":
        keys.sort(key=lambda key: "running" in key or "num_batches" in key)
    file = {key: state[key] for key in keys}
    target = {k: t for k, t in source.items() if not k.startswith("classifier")}
    alignment = align(slots(file), slots(target))
    assert alignment.pairs == {k: k.replace("features", "body.l").replace("conv", "part") for k in target}
    assert alignment.complete


def test_a_sorted_naming_that_tells_too_little_is_refused():
    state = _network("timm/resnet18").state_dict()
    file = dict(sorted((k.replace("layer", "stage"), t) for k, t in state.items()))
    assert _align(file, _network("timm/resnet18", classes=0)).pairs == {}


def _equal_blocks(names):
    return [Slot(f"{name}.{kind}", shape) for name in names for kind, shape in (("weight", (4, 4)), ("bias", (4,)))]


@pytest.mark.parametrize("told", [True, False])
def test_equal_blocks_in_a_sorted_file_are_not_taken_as_they_come(told):
    """Twelve equal blocks fit in any order; only the numbers in their names tell the right one."""
    target = _equal_blocks([f"blocks.{i}.fc" for i in range(12)])
    words = [
        f"layers.{i}.fc.{kind}" if told else f"arr_{2 * i + j}"
        for i in range(12)
        for j, kind in enumerate(("weight", "bias"))
    ]
    file = sorted((Slot(w, s.shape) for w, s in zip(words, target, strict=True)), key=lambda slot: slot.name)
    alignment = align(file, target)
    assert alignment.pairs == {slot.name: word for slot, word in zip(target, words, strict=True)}


def test_equal_blocks_in_an_order_of_their_own_are_ambiguous():
    target = _equal_blocks([f"blocks.{i}.fc" for i in range(4)])
    alignment = align(_equal_blocks([f"layers.{i}.fc" for i in (2, 0, 3, 1)]), target)
    assert (alignment.ambiguous, alignment.pairs) == (True, {})
    assert "numbers in their names" in alignment.reason
    allowed = align(_equal_blocks([f"layers.{i}.fc" for i in (2, 0, 3, 1)]), target, allow_ambiguous=True)
    assert allowed.pairs == {slot.name: slot.name.replace("blocks", "layers") for slot in target}


def test_nothing_against_something():
    assert align([], [Slot("a.weight", (2,))]).pairs == {}
    assert align([Slot("x", (2,))], []).pairs == {}
