"""Architectures recognised from what the zoos' own networks save."""

import functools
import random
import re
import subprocess
import sys

import pytest
import timm
import torch
from timm.models import list_pretrained, model_entrypoint
from torch import nn
from torchvision import models

from regraft.backbones import catalogue, packaged
from regraft.backbones.fingerprint_collect import weightless
from regraft.backbones.identify import identify
from regraft.checkpoints.read import read_state_dict

QUICK = [
    "torchvision/alexnet",
    "torchvision/densenet121",
    "torchvision/efficientnet_b0",
    "torchvision/googlenet",
    "torchvision/mobilenet_v3_large",
    "torchvision/resnext50_32x4d",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/squeezenet1_1",
    "torchvision/swin_t",
    "torchvision/vgg11",
    "timm/beit_base_patch16_224",
    "timm/convnext_tiny",
    "timm/deit3_small_patch16_224",
    "timm/mixer_b16_224",
    "timm/mobilenetv3_large_100",
    "timm/vit_small_patch14_dinov2",
]


def _module(architecture, **options):
    zoo, _, name = architecture.partition("/")
    if zoo == "timm":
        with weightless():
            return timm.create_model(name, **options)
    if name in {"googlenet", "inception_v3"}:
        options["init_weights"] = False
    try:
        with weightless():
            return models.get_model(name, weights=None, **options)
    except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
        return models.get_model(name, weights=None, **options)


@functools.cache
def _saved(architecture, **options):
    return _module(architecture, **options).state_dict()


def _headless(architecture):
    try:
        with weightless():
            return catalogue.build_module(architecture).state_dict()
    except NotImplementedError:
        return catalogue.build_module(architecture).state_dict()


def _forms(architecture):
    bare = _module(architecture).state_dict()
    yield "bare", bare
    yield "prefixed", {f"module.model.{name}": tensor for name, tensor in bare.items()}
    yield "other head", _module(architecture, num_classes=7).state_dict()
    yield "no head", _headless(architecture)


def _names(guess):
    return {guess.architecture, *guess.same_as}


def _scrambled(state, seed=0):
    words = random.Random(seed)
    return {"".join(words.choices("abcdefghijklmnop", k=10)): tensor for tensor in state.values()}


@pytest.mark.parametrize("architecture", QUICK)
def test_every_form_of_a_file_is_recognised(architecture):
    for form, state in _forms(architecture):
        identity = identify(state)
        assert architecture in _names(identity.guesses[0]), form
        assert identity.guesses[0].share == 1, form
        assert identity.certainty in {"certain", "ambiguous"}, form
        assert identity.channels == 3, form
        assert identity.guesses[0].prefix == ("module.model." if form == "prefixed" else ""), form
        assert (identity.classes is None) == (form == "no head" or ("dinov2" in architecture and form != "other head"))
        if form == "other head":
            assert identity.classes == 7


def test_what_is_said_of_a_resnet():
    identity = identify(_saved("torchvision/resnet34"))
    best = identity.guesses[0]
    assert (identity.certainty, identity.head, identity.classes) == ("certain", "fc", 1000)
    assert (best.architecture, best.same_as, best.family) == ("torchvision/resnet34", ("timm/resnet34",), "resnet")
    # 33 convolutions and 3 of shortcuts, and one weight of each of the 36 norms is a vector
    assert (best.depth, best.width, best.naming) == (36, 512, "timm and torchvision")
    assert (identity.channels, identity.input_size) == (3, None)
    assert "torchvision/resnet34" in identity.why


def test_shapes_alone_are_enough():
    state = _saved("timm/convnext_tiny")
    assert identify({name: tuple(tensor.shape) for name, tensor in state.items()}) == identify(state)


@pytest.mark.parametrize(
    ("architecture", "options", "channels", "size"),
    [
        ("timm/resnet34", {"in_chans": 1}, 1, None),
        ("timm/vit_small_patch16_224", {"in_chans": 4, "img_size": 384}, 4, (384, 384)),
        ("timm/vit_small_patch16_224", {"img_size": 320}, 3, (320, 320)),
        ("timm/deit_tiny_distilled_patch16_224", {"img_size": 256, "num_classes": 3}, 3, (256, 256)),
        ("torchvision/vit_b_32", {"image_size": 288}, 3, (288, 288)),
        ("timm/samvit_base_patch16", {"img_size": 768}, 3, (768, 768)),
    ],
)
def test_channels_and_input_size_are_read_off(architecture, options, channels, size):
    identity = identify(_module(architecture, **options).state_dict())
    assert (identity.channels, identity.input_size) == (channels, size)
    assert identity.guesses[0].share == 1
    family = architecture.rpartition("_")[0]
    assert any(name.startswith(family) for guess in identity.guesses for name in _names(guess))


def test_what_else_is_in_the_file_does_not_disturb():
    state = dict(_saved("timm/convnext_tiny", num_classes=5))
    state |= {f"projection.{i}.weight": torch.empty(2048, (768, 2048)[i > 0], device="meta") for i in range(3)}
    state |= {f"ema_{name.replace('.', '_')}": tensor for name, tensor in list(state.items())[:40]}
    identity = identify(state)
    assert identity.guesses[0].architecture == "timm/convnext_tiny"
    assert (identity.certainty, identity.head, identity.classes) == ("certain", "head.fc", 5)


def test_another_head_is_found_behind_the_features():
    state = {f"backbone.{name}": tensor for name, tensor in _headless("torchvision/resnet34").items()}
    state |= {"classifier.0.weight": (128, 512), "classifier.0.bias": (128,)}
    state |= {"classifier.3.weight": (11, 128), "classifier.3.bias": (11,)}
    identity = identify(state)
    assert (identity.head, identity.classes, identity.guesses[0].prefix) == ("classifier.3", 11, "backbone.")


def test_half_precision_and_missing_counters_make_no_difference():
    state = {name: tensor.bfloat16() for name, tensor in _saved("torchvision/resnet34").items() if "num_b" not in name}
    assert identify(state) == identify(_saved("torchvision/resnet34"))


def test_a_missing_stage_is_partial_and_its_share_exact():
    whole = _headless("torchvision/resnet34")
    sizes = {name: t.numel() for name, t in whole.items() if not re.search("num_batches|running_", name)}
    state = {name: tensor for name, tensor in whole.items() if not name.startswith("layer4.")}
    identity = identify(state)
    assert identity.certainty == "partial"
    assert identity.guesses[0].architecture == "torchvision/resnet34"
    kept = sum(size for name, size in sizes.items() if name in state)
    assert identity.guesses[0].share == pytest.approx(kept / sum(sizes.values()), abs=1e-12)


def test_a_cut_out_part_of_a_network_is_found_again():
    state = _saved("torchvision/mobilenet_v2")
    cut = {name.removeprefix("features."): tensor for name, tensor in state.items() if name.startswith("features.")}
    best = identify(cut).guesses[0]
    assert (best.architecture, best.lost, best.share) == ("torchvision/mobilenet_v2", "features.", 1)


@pytest.mark.parametrize(
    "architecture",
    ["torchvision/densenet121", "torchvision/mobilenet_v3_small", "torchvision/resnet34", "timm/vit_small_patch16_224"],
)
def test_random_names_in_the_right_order(architecture):
    state = _scrambled(_saved(architecture))
    for one in (state, {name: tuple(tensor.shape) for name, tensor in state.items()}):
        identity = identify(one)
        assert architecture in _names(identity.guesses[0])
        assert (identity.guesses[0].translation, identity.guesses[0].naming) == ("structure", "unknown names")
        assert identity.guesses[0].share == 1
        assert identity.classes == 1000


@pytest.mark.parametrize("name", packaged.NAMES)
def test_the_packaged_files_are_recognised_by_translation(name):
    path = packaged.weights_path(name)
    if path is None:
        pytest.skip(f"the weights of {name} are not installed")
    identity = identify(read_state_dict(path))
    best = identity.guesses[0]
    assert (best.architecture, best.share) == (f"timm/tf_{name}", 1)
    assert best.naming.startswith("lukemelas")
    assert best.translation
    assert (identity.certainty, identity.head, identity.classes) == ("certain", "_fc", 1000)
    assert "naming decided" in identity.why


def test_twins_are_all_named_and_only_hints_and_modules_choose():
    module = _module("timm/resnetblur18")
    state = module.state_dict()
    assert identify(state).certainty == "likely"  # nobody publishes weights of the other
    assert identify(_saved("timm/efficientnet_lite0")).certainty == "ambiguous"
    assert [guess.architecture for guess in identify(state).guesses] == ["torchvision/resnet18", "timm/resnetblur18"]
    by_modules = identify(state, modules=[name for name, _ in module.named_modules()])
    by_hint = identify(state, hints=["resnetblur18-84f4748f"])
    for identity, what in ((by_modules, "modules"), (by_hint, "names")):
        assert identity.guesses[0].architecture == "timm/resnetblur18"
        assert identity.certainty == "certain"
        assert f"{what} that the file" in identity.why
    wrong = identify(_saved("torchvision/resnet34"), hints=["vgg16"])
    assert wrong == identify(_saved("torchvision/resnet34"))


def test_modules_may_carry_the_wrappers_prefix():
    module = nn.DataParallel(_module("timm/resnetblur18"))
    identity = identify(module.state_dict(), modules=[name for name, _ in module.named_modules()])
    assert (identity.guesses[0].architecture, identity.guesses[0].prefix) == ("timm/resnetblur18", "module.")


def _bert():
    layers = {
        "attention.self.query": (768, 768),
        "attention.self.key": (768, 768),
        "attention.self.value": (768, 768),
        "attention.output.dense": (768, 768),
        "attention.output.LayerNorm": (768,),
        "intermediate.dense": (3072, 768),
        "output.dense": (768, 3072),
        "output.LayerNorm": (768,),
    }
    state = {"bert.embeddings.word_embeddings.weight": (30522, 768)}
    for i in range(12):
        for name, shape in layers.items():
            state[f"bert.encoder.layer.{i}.{name}.weight"] = shape
            state[f"bert.encoder.layer.{i}.{name}.bias"] = shape[:1]
    return state


def _unet():
    sizes = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1536, 512), (768, 256)]
    parts = {f"part{i}": nn.Sequential(nn.Conv2d(a, b, 3), nn.BatchNorm2d(b)) for i, (a, b) in enumerate(sizes)}
    return nn.ModuleDict(parts).state_dict()


@pytest.mark.parametrize(
    "make",
    [
        dict,
        _bert,
        lambda: _scrambled(_bert()),
        _unet,
        lambda: nn.Transformer(64, 4).state_dict(),
        lambda: nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10)).state_dict(),
        lambda: nn.LSTM(512, 512, 3).state_dict(),
        lambda: {"weight": (64, 3, 7, 7)},
    ],
)
def test_unrelated_networks_are_unknown(make):
    identity = identify(make())
    assert (identity.certainty, identity.guesses, identity.head, identity.channels) == ("unknown", (), "", None)


def test_an_order_that_is_not_the_networks_is_unknown():
    items = list(_saved("torchvision/resnet18").items())
    random.Random(3).shuffle(items)
    assert identify(_scrambled(dict(items))).certainty == "unknown"


def test_most_limits_the_list():
    assert len(identify(_saved("torchvision/resnet18"), most=1).guesses) == 1


def test_it_needs_no_torch():
    code = (
        "import sys\nfrom regraft.backbones.identify import identify\nidentify({'fc.weight': (10, 512)})\n"
        "sys.exit(bool({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _chosen():
    """All of torchvision, and of every family of timm the two first published by name."""
    families = {}
    for name in sorted({name.partition(".")[0] for name in list_pretrained()}):
        families.setdefault(model_entrypoint(name).__module__, []).append(f"timm/{name}")
    chosen = [name for names in families.values() for name in names[:2]]
    assert len(families) >= 25
    assert len(chosen) >= 60
    return [*(f"torchvision/{name}" for name in models.list_models(module=models)), *chosen]


@pytest.mark.nightly
def test_sweep_over_the_zoos():
    right, listed, all_of_them, wrong = 0, 0, 0, []
    for architecture in _chosen():
        for form, state in _forms(architecture):
            guesses = identify(state).guesses
            top = bool(guesses) and architecture in _names(guesses[0])
            right, all_of_them = right + top, all_of_them + 1
            listed += any(architecture in _names(guess) for guess in guesses)
            if not top:
                wrong.append((architecture, form, guesses[0].architecture if guesses else None))
    assert listed == all_of_them, wrong
    assert right >= 0.95 * all_of_them, wrong
