"""Names in other words: against the other libraries' own networks, timm's own readers, and parts missing."""

import re

import pytest
import timm
import torch
from timm.models import convnext as timm_convnext
from timm.models import swin_transformer as timm_swin
from timm.models import vision_transformer as timm_vit
from torch import nn
from torchvision import models

from regraft.checkpoints.translations import Origin, translations_for, with_eps
from unit.checkpoints.translated import carried, difference, shapes_of, stirred, timm_net


def _shapes(build, name):
    with torch.device("meta"):
        return shapes_of(build(name))


def _best(source, target):
    return translations_for(source, target)[0]


# ----- EfficientNet-PyTorch -------------------------------------------------------------------------------


def _lukemelas(name):
    oracle = pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle for these names is not installed")
    return _shapes(oracle.EfficientNet.from_name, name)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *[(f"efficientnet-lite{level}", f"tf_efficientnet_lite{level}") for level in range(5)],
        ("efficientnet-b1", "tf_efficientnet_b1"),
    ],
)
def test_the_other_librarys_own_network_fills_timms(theirs, ours):
    source, target = _lukemelas(theirs), _shapes(timm.create_model, ours)
    translation, origins = _best(source, target)
    assert translation.name == "lukemelas EfficientNet -> timm"
    assert {name: source[origin.names[0]] for name, origin in origins.items()} == target
    assert {origin.names[0] for origin in origins.values()} == set(source)
    assert all(origin.make is None for origin in origins.values())


def test_and_torchvisions_and_back():
    source, target = _lukemelas("efficientnet-b1"), _shapes(models.get_model, "efficientnet_b1")
    translation, origins = _best(source, target)
    assert translation.target == "torchvision"
    assert {name: source[origin.names[0]] for name, origin in origins.items()} == target
    _, back = _best(target, source)
    assert {name: origins[origin.names[0]].names[0] for name, origin in back.items()} == {name: name for name in source}


def test_a_block_too_many_is_left():
    source = {"_blocks.99._bn1.weight": (3,), "_fc.weight": (1000, 1280)}
    _, origins = _best(source, _shapes(timm.create_model, "tf_efficientnet_lite0"))
    assert origins == {"classifier.weight": Origin(("_fc.weight",))}


# ----- eps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *[(f"efficientnet_b{level}", f"efficientnet_b{level}") for level in range(8)],
        *[(f"efficientnet_v2_{size}", f"efficientnetv2_{size}") for size in "sml"],
        ("mobilenet_v2", "mobilenetv2_100"),
        ("mobilenet_v3_small", "mobilenetv3_small_100"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("mnasnet1_0", "mnasnet_100"),
    ],
)
def test_eps_is_what_the_networks_have(ours, theirs):
    with torch.device("meta"):
        one, two = models.get_model(ours), timm.create_model(theirs)
    for source, target in [(one, two), (two, one)]:
        _, origins = _best(shapes_of(source), shapes_of(target))
        written, here = _eps(source), _eps(target)
        assert {name for name in origins if name.endswith("running_var")} == set(here)
        for name, eps in here.items():
            origin = origins[name]
            assert origin.eps == written[origin.names[0]]
            moved = torch.zeros(1) if origin.make is None else origin.make([torch.zeros(1)])
            assert moved.item() == pytest.approx(origin.eps - eps, abs=1e-9)


def _eps(module):
    return {f"{name}.running_var": layer.eps for name, layer in module.named_modules() if hasattr(layer, "running_var")}


def test_eps_of_the_network_at_hand_counts_more_than_the_table():
    with torch.device("meta"):
        source, target = models.get_model("mobilenet_v3_small"), timm.create_model("tf_mobilenetv3_small_100")
    (_, guessed), (_, known) = (
        translations_for(shapes_of(source), shapes_of(target), eps)[0] for eps in (None, _eps(target))
    )
    assert guessed["bn1.running_var"].how == "variance + 0.00099 (eps 0.001 in the file, 1e-05 here)"
    assert known["bn1.running_var"] == Origin(("features.0.1.running_var",), eps=1e-3)


def test_eps_is_moved_in_single_precision_at_least():
    half = torch.tensor([1.0], dtype=torch.float16)
    origin = with_eps(Origin(("v",), eps=1e-3), 1e-5)
    assert origin.make([half]).item() == pytest.approx(1.00099, abs=1e-6)
    assert with_eps(origin, 1e-3).make is None


# ----- parts missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mobilenet_v2", "mobilenetv2_100"), ("mobilenet_v3_large", "mobilenetv3_large_100")]
)
def test_a_block_that_is_missing_never_shifts_the_others(ours, theirs):
    source, target = _shapes(timm.create_model, theirs), _shapes(models.get_model, ours)
    whole = _names(source, target)
    blocks = sorted({found[0] for name in source if (found := re.match(r"blocks\.\d+\.(\d+\.)?", name))})
    for block in blocks:
        rest = {name: shape for name, shape in source.items() if not name.startswith(block)}
        given = _names(rest, target)
        before = {
            name: old for name, old in whole.items() if not old.startswith("blocks.") or _place(old) < _place(block)
        }
        assert before.items() <= given.items() <= whole.items()


def _names(source, target):
    return {name: origin.names[0] for name, origin in _best(source, target)[1].items()}


def _place(name):
    return [int(word) for word in name.split(".")[1:3] if word]


def test_a_stage_that_is_missing_costs_no_other_where_both_count_by_stage():
    source, target = _shapes(models.get_model, "efficientnet_b0"), _shapes(timm.create_model, "efficientnet_b0")
    rest = {name: shape for name, shape in source.items() if not name.startswith("features.4.")}
    _, origins = _best(rest, target)
    assert set(target) - set(origins) == {name for name in target if name.startswith("blocks.3.")}


@pytest.mark.parametrize(("ours", "theirs"), [("convnext_tiny", "convnext_tiny"), ("vit_b_32", "vit_base_patch32_224")])
def test_another_head_is_given_with_its_own_shape_and_none_is_no_harm(ours, theirs):
    source, target = _shapes(models.get_model, ours), _shapes(lambda n: timm.create_model(n, num_classes=0), theirs)
    _, origins = _best(source, target)
    assert set(origins) == set(target)
    assert set(source) - {origin.names[0] for origin in origins.values()} == {
        name for name in source if name.startswith(("classifier.2.", "heads."))
    }


def test_other_families_and_the_same_naming_give_nothing():
    convnext = _shapes(timm.create_model, "convnext_atto")
    assert translations_for(convnext, convnext) == []
    assert translations_for(_shapes(models.get_model, "swin_t"), convnext) == []
    assert translations_for({}, convnext) == []
    assert translations_for({"a.weight": (3, 3)}, {"b.weight": (3, 3)}) == []


def test_no_translation_names_a_tensor_that_the_file_lacks():
    names = ["efficientnet_b0", "mobilenet_v2", "convnext_tiny", "swin_v2_t", "vit_b_32", "resnet18", "mnasnet1_0"]
    ours = [_shapes(models.get_model, name) for name in names]
    theirs = [
        _shapes(timm.create_model, name)
        for name in (
            "efficientnet_b0",
            "mobilenetv2_100",
            "convnext_tiny",
            "swinv2_tiny_window8_256",
            "deit_tiny_patch16_224",
        )
    ]
    for source in [*ours, *theirs]:
        for target in [*ours, *theirs]:
            for _, origins in translations_for(source, target):
                assert set(origins) <= set(target)
                assert {name for origin in origins.values() for name in origin.names} <= set(source)


def test_strange_names_and_shapes_are_left_alone():
    """Names that almost are some library's own, and tensors without sides, in a file that nobody can vouch for."""
    nets = [models.efficientnet_b0, models.mobilenet_v2, models.mobilenet_v3_small, models.swin_v2_t, models.vit_b_32]
    nets += [models.mnasnet1_0, models.convnext_tiny, models.resnet18]
    strange = ["", "x", "-1", "٣", "9" * 5000]
    with torch.device("meta"):
        ours = [shapes_of(build()) for build in nets]
    ours.append(_shapes(timm.create_model, "mobilenetv3_small_100"))
    ours.append(_shapes(timm.create_model, "swinv2_tiny_window8_256"))
    for shapes in ours:
        source = {re.sub(r"\d+", word, name): () for name in shapes for word in strange}
        source |= {re.sub(r"\d+$", word, name[::-1])[::-1]: (0,) for name in shapes for word in strange}
        source |= dict.fromkeys(shapes, ()) | {f"{name}.more": (1,) for name in shapes}
        for target in ours:
            for _, origins in translations_for(source, target):
                assert {name for origin in origins.values() for name in origin.names} <= set(source)


# ----- torchvision's first files ------------------------------------------------------------------------------


def test_densenet_and_vit_as_torchvision_first_named_them():
    now = _shapes(models.get_model, "densenet121")
    first = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): name for name in now}
    translation, origins = _best({old: now[name] for old, name in first.items()}, now)
    assert translation.name == "early torchvision DenseNet -> torchvision/timm"
    assert {origin.names[0]: name for name, origin in origins.items()} == first
    assert translations_for(now, now) == []
    now = _shapes(models.get_model, "vit_b_32")
    words = {"mlp.0": "mlp.linear_1", "mlp.3": "mlp.linear_2"}
    first = {re.sub(r"mlp\.[03]", lambda found: words[found[0]], name): name for name in now}
    assert set(first) != set(now)
    _, origins = _best({old: now[name] for old, name in first.items()}, now)
    assert {origin.names[0]: name for name, origin in origins.items()} == first


def test_a_resnet_cut_into_a_sequential():
    whole = stirred(models.resnet18().eval(), 64)
    cut = nn.Sequential(*list(whole.children())[:-1], nn.Flatten()).eval()
    target = models.resnet18().eval()
    target.fc = nn.Identity()
    translation, left = carried(cut, target)
    assert translation.source == "a Sequential"
    assert left == set()
    assert difference(cut, target, 64) == 0


# ----- the authors' repositories: timm's own readers are the oracle ---------------------------------------------


def _as_convnext_authors(name):
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    name = name.replace("blocks.", "").replace("conv_dw", "dwconv")
    name = name.replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
    name = name.replace("mlp.grn.weight", "grn.gamma").replace("mlp.grn.bias", "grn.beta")
    return name.replace("head.norm", "norm").replace("head.fc", "head")


def _agree_with(reader, state, target):
    """Our origins give what timm's reader for these files gives."""
    expected = reader(dict(state), target)
    translation, origins = _best({name: tuple(t.shape) for name, t in state.items()}, shapes_of(target))
    slots = target.state_dict()
    for name, slot in slots.items():
        tensors = [state[old] for old in origins[name].names]
        tensor = origins[name].make(tensors) if origins[name].make else tensors[0]
        assert torch.equal(tensor.reshape(slot.shape), expected[name].reshape(slot.shape))
    return translation


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_atto"])
def test_convnext_of_its_authors(name):
    net = timm_net(name, depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), conv_mlp=False)
    state = {_as_convnext_authors(old): torch.randn_like(tensor) for old, tensor in net.state_dict().items()}
    state = {n: t.reshape(1, 1, 1, -1) if "grn" in n else t for n, t in state.items()}
    assert any(n.startswith("stages.2.1.pwconv1") for n in state)
    assert _agree_with(timm_convnext.checkpoint_filter_fn, state, net).name == "official ConvNeXt -> timm"


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_swin_of_its_authors(name):
    small = {"depths": (2, 2, 2), "embed_dim": 24, "num_heads": (2, 3, 4), "window_size": 4, "img_size": 64}
    net = timm_net(name, **small)
    state = {
        re.sub(r"layers\.(\d)\.downsample", lambda f: f"layers.{int(f[1]) - 1}.downsample", old).replace(
            "head.fc", "head"
        ): torch.randn_like(tensor)
        for old, tensor in net.state_dict().items()
    }
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16)
    reader = (
        timm_swin.checkpoint_filter_fn
        if name.startswith("swin_")
        else timm.models.swin_transformer_v2.checkpoint_filter_fn
    )
    assert _agree_with(reader, state, net).name == "official Swin -> timm"


def test_the_image_half_of_clip():
    net = timm_net("vit_base_patch32_clip_224", depth=2, embed_dim=24, num_heads=3, num_classes=5)
    words = {
        "cls_token": "class_embedding", "pos_embed": "positional_embedding", "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre", "norm1": "ln_1", "norm2": "ln_2", "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "blocks.": "transformer.resblocks.",
    }  # fmt: skip
    state = {}
    for old, tensor in net.state_dict().items():
        new = "ln_post." + old[5:] if old.startswith("norm.") else old
        for word, other in words.items():
            new = new.replace(word, other)
        state[f"visual.{new}"] = torch.randn_like(tensor)
    state["visual.class_embedding"] = state["visual.class_embedding"].flatten()
    state["visual.positional_embedding"] = state["visual.positional_embedding"][0]
    state["visual.proj"] = state.pop("visual.head.weight").t()
    del state["visual.head.bias"]
    state["transformer.resblocks.0.ln_1.weight"] = torch.zeros(16)  # of the text half
    expected = timm_vit.checkpoint_filter_fn(dict(state), net)
    translation, origins = _best({name: tuple(t.shape) for name, t in state.items()}, shapes_of(net))
    assert translation.name == "CLIP ViT -> timm"
    assert set(net.state_dict()) - set(origins) == {"head.bias"}
    for name, origin in origins.items():
        tensor = origin.make([state[origin.names[0]]]) if origin.make else state[origin.names[0]]
        assert torch.equal(tensor.reshape(expected[name].shape), expected[name])


# ----- Hugging Face ---------------------------------------------------------------------------------------------------


class _Attention(nn.Module):
    """As their names have it: query, key and value apart."""

    def __init__(self, width):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x, heads):
        split = [layer(x).unflatten(-1, (heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)]
        return nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def _tree(**children):
    return nn.ModuleDict(children)


class _HuggingFaceViT(nn.Module):
    """A vision transformer of 2 layers with the names of Hugging Face's."""

    def __init__(self, width=24, classes=5):
        super().__init__()
        layers = [
            _tree(
                attention=_tree(attention=_Attention(width), output=_tree(dense=nn.Linear(width, width))),
                intermediate=_tree(dense=nn.Linear(width, 4 * width)),
                output=_tree(dense=nn.Linear(4 * width, width)),
                layernorm_before=nn.LayerNorm(width, 1e-6),
                layernorm_after=nn.LayerNorm(width, 1e-6),
            )
            for _ in range(2)
        ]
        embeddings = _tree(patch_embeddings=_tree(projection=nn.Conv2d(3, width, 8, 8)))
        embeddings.register_parameter("cls_token", nn.Parameter(torch.zeros(1, 1, width)))
        embeddings.register_parameter("position_embeddings", nn.Parameter(torch.zeros(1, 17, width)))
        self.vit = _tree(
            embeddings=embeddings, encoder=_tree(layer=nn.ModuleList(layers)), layernorm=nn.LayerNorm(width, 1e-6)
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        first = self.vit["embeddings"]
        x = first["patch_embeddings"]["projection"](x).flatten(2).transpose(1, 2)
        x = torch.cat([first.cls_token.expand(len(x), -1, -1), x], 1) + first.position_embeddings
        for layer in self.vit["encoder"]["layer"]:
            attention = layer["attention"]
            x = x + attention["output"]["dense"](attention["attention"](layer["layernorm_before"](x), 3))
            y = nn.functional.gelu(layer["intermediate"]["dense"](layer["layernorm_after"](x)))
            x = x + layer["output"]["dense"](y)
        return self.classifier(self.vit["layernorm"](x)[:, 0])


def test_query_key_and_value_are_joined_and_taken_apart():
    one = _HuggingFaceViT().eval()
    two = timm_net("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=3, patch_size=8, img_size=32, num_classes=5)
    three = models.VisionTransformer(32, 8, 2, 3, 24, 96, num_classes=5).eval()
    for source, target in [(one, two), (two, one), (one, three), (three, one)]:
        stirred(target.float(), 32, seed=1)
        stirred(source.float(), 32)
        _, left = carried(source.double(), target.double())
        assert left == set()
        assert difference(source, target, 32) < 1e-9
    _, origins = _best(shapes_of(one), shapes_of(two))
    assert origins["blocks.1.attn.qkv.bias"].how == "q, k and v joined"
    assert origins["blocks.1.attn.qkv.bias"].shape == (72,)


def _as_hugging_face_resnet(name):
    kinds = {"conv": "convolution", "bn": "normalization"}
    name = re.sub(r"^(conv|bn)1\.", lambda f: f"resnet.embedder.embedder.{kinds[f[1]]}.", name)
    name = re.sub(r"^layer(\d)\.(\d+)", lambda f: f"resnet.encoder.stages.{int(f[1]) - 1}.layers.{f[2]}", name)
    name = re.sub(r"\.(conv|bn)(\d)\.", lambda f: f".layer.{int(f[2]) - 1}.{kinds[f[1]]}.", name)
    name = name.replace("downsample.0", "shortcut.convolution").replace("downsample.1", "shortcut.normalization")
    return re.sub(r"^fc\.", "classifier.1.", name)


def _as_hugging_face_convnext(name):
    name = _as_convnext_authors(name)
    name = name.replace("downsample_layers.0.0", "embeddings.patch_embeddings")
    name = name.replace("downsample_layers.0.1", "embeddings.layernorm")
    name = re.sub(r"^downsample_layers\.(\d)", r"encoder.stages.\1.downsampling_layer", name)
    name = re.sub(r"^stages\.(\d)", r"encoder.stages.\1.layers", name)
    name = re.sub(r"(?<!layer)norm\.", "layernorm.", name).replace("gamma", "layer_scale_parameter")
    return name.replace("head.", "classifier.") if name.startswith("head.") else f"convnext.{name}"


@pytest.mark.parametrize(
    ("build", "name", "words"),
    [
        (models.get_model, "resnet18", _as_hugging_face_resnet),
        (models.get_model, "resnet50", _as_hugging_face_resnet),
        (timm.create_model, "convnext_tiny", _as_hugging_face_convnext),
    ],
)
def test_hugging_faces_names_both_ways(build, name, words):
    here = _shapes(build, name)
    there = {words(old): shape for old, shape in here.items()}
    assert len(there) == len(here)
    assert not set(there) & set(here)
    assert _names(there, here) == {old: words(old) for old in here}
    assert _names(here, there) == {words(old): old for old in here}


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_hugging_faces_swin_comes_back_as_it_was(name):
    """Their names written down beside timm's; there and back gives every tensor as it was."""
    small = {"depths": (1, 2), "embed_dim": 8, "num_heads": (2, 2), "window_size": 4, "img_size": 64}
    net = timm_net(name, **small)
    there = {}
    for old, tensor in net.state_dict().items():
        new = old.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        new = new.replace("patch_embed.norm", "embeddings.norm").replace("layers.1.downsample", "layers.0.downsample")
        new = re.sub(r"^layers", "encoder.layers", new).replace("attn.proj", "attention.output.dense")
        new = (
            new.replace("norm1", "layernorm_before")
            .replace("norm2", "layernorm_after")
            .replace("attn", "attention.self")
        )
        new = new.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        new = new.replace("cpb_mlp", "continuous_position_bias_mlp").replace("q_bias", "query.bias")
        new = re.sub(r"^norm", "layernorm", new.replace("v_bias", "value.bias"))
        new = new.replace("head.fc", "classifier") if "head" in new else f"swin.{new}"
        if "qkv" in new:
            parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
            there |= {new.replace("qkv", word): part for word, part in parts}
        else:
            there[new] = tensor
    translation, origins = _best({n: tuple(t.shape) for n, t in there.items()}, shapes_of(net))
    assert translation.name == "Hugging Face Swin -> timm"
    assert set(origins) == set(net.state_dict())
    for new, origin in origins.items():
        tensors = [there[old] for old in origin.names]
        assert torch.equal(origin.make(tensors) if origin.make else tensors[0], net.state_dict()[new])
