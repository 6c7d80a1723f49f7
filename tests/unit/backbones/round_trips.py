"""A network of a zoo saved in every common form, read back, recognised and loaded; what came of it."""

import argparse
import collections
import copy
import time
from dataclasses import dataclass

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import regraft
from regraft.backbones.catalogue import build_module
from regraft.backbones.timm_zoo import fixed_size
from regraft.errors import RegraftError

CLASSES, OTHER_CLASSES = 1000, 7
FORMS = ("bare", "nested", "prefixed", "ema", "head", "training", "safetensors")
_SIDES = (64, 96, 128, 160, 224, 256, 299, 331, 384, 512)
_REFUSALS = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)

TORCHVISION = [f"torchvision/{name}" for name in sorted(models.list_models(module=models))]

# Of each of timm's modules with published weights the network with the fewest parameters, if it has at most 100
# million of them and takes images of at most 512 pixels: a rule, so that none was picked for its result.
_SMALLEST = """
beit_base_patch16_224 eca_botnext26ts_256 mobileone_s1 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32
convnext_zepto_rms cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
deit_tiny_patch16_224 densenet121 dla46x_c dpn68 edgenext_xx_small efficientformer_l1 efficientformerv2_s0
mobilenetv2_050 efficientvim_m1 efficientvit_b0 efficientvit_m0 vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8
focalnet_tiny_srf gcvit_xxtiny ghostnet_100 hardcorenas_b hgnetv2_b0 hiera_tiny_224 hrnet_w18_small iformer_t
inception_next_atto inception_resnet_v2 inception_v3 inception_v4 lcnetv2_small levit_128s lowformer_b0
mambaout_femto maxvit_rmlp_pico_rw_256 poolformerv2_s12 resmlp_12_224 mobilenetv3_small_050 mobilevit_xxs mvitv2_tiny
naflexvit_base_patch16_parfac_gap nasnetalarge nest_tiny_jx nextvit_small nf_regnet_b1 pit_ti_224 pnasnet5large
pvt_v2_b0 rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d resnet10t resnetv2_18 rexnet_100
selecsls60 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s1 swiftformer_xs swin_tiny_patch4_window7_224
swinv2_tiny_window16_256 swinv2_cr_tiny_ns_224 tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_svt_small
visformer_tiny vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vit_srelpos_small_patch16_224 vitamin_small_224
volo_d1_224 ese_vovnet19b_dw legacy_xception xception41p xcit_nano_12_p8_224
"""
# And what people have most often, with some that only their padding or their activation tells apart.
_WELL_KNOWN = """
resnet18 resnet50 resnet50d seresnet50 resnext50_32x4d wide_resnet50_2 vgg11 vgg16_bn mobilenetv2_100
mobilenetv3_large_100 tf_mobilenetv3_large_100 efficientnet_b0 tf_efficientnet_b0 efficientnet_lite0
tf_efficientnet_lite0 tf_efficientnetv2_s regnety_016 convnext_tiny convnextv2_atto vit_small_patch16_224
vit_base_patch32_224 vit_base_patch32_clip_224 deit3_small_patch16_224 deit_small_distilled_patch16_224
resnetv2_50 caformer_s18 coatnet_0_rw_224 mixer_b16_224 vit_tiny_patch16_384
"""
TIMM = [f"timm/{name}" for name in (_SMALLEST + _WELL_KNOWN).split()]


@dataclass(frozen=True)
class Trip:
    """What came of one file.

    Attributes:
        architecture: of the source.
        form: one of `FORMS`.
        place: 1 if the source's architecture is the first guess or the very same function as it, 2 if the second,
            ...; 0 if it is not in the list.
        named: the first guess.
        certainty: of the answer.
        classes: as recognised.
        identify_seconds: how long `identify` took.
        share: of the backbone's parameters that were loaded.
        complete: whether every tensor was.
        equal: whether all tensors of the network are then those of the source.
        difference: the largest between outputs, against the source's tensors loaded by torch alone.
        problem: why it could not be read or loaded; empty if it could.
    """

    architecture: str
    form: str
    place: int = 0
    named: str = ""
    certainty: str = ""
    classes: int | None = None
    identify_seconds: float = 0.0
    share: float = 0.0
    complete: bool = False
    equal: bool = False
    difference: float = float("inf")
    problem: str = ""

    @property
    def loaded(self):
        """Whether all of the backbone is there, and right."""
        return self.share == 1 and self.complete and self.equal and self.difference <= 1e-6


def round_trips(architecture, folder, forms=FORMS):
    """Save, read, recognise and load one network in several forms, one file at a time.

    Returns:
        One Trip a form; and the largest difference between what `build_module` computes with the source's tensors
        and the features that the source itself has before its last layer (None where it has no way to ask).
    """
    source = stirred(source_network(architecture, CLASSES), seed=0)
    raw = source.state_dict()
    target = build_module(architecture)
    image, output = _first_output(architecture, target, raw)
    own = _own_difference(architecture, source, image, output)
    trips = []
    for form in forms:
        if form == "head":
            true = stirred(source_network(architecture, OTHER_CLASSES), seed=1).state_dict()
        else:
            true = _averaged(raw) if form == "ema" else raw
        path = folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
        write(path, form, source, true)
        expected = output if true is raw else _loaded_by_torch(target, true, image)
        trips.append(_trip(architecture, form, path, target, true, image, expected))
        path.unlink()
    return trips, own


def source_network(architecture, classes):
    """With its classifier, as people train it."""
    zoo, _, name = architecture.partition("/")
    if zoo == "timm":
        return timm.create_model(name, num_classes=classes).eval()
    slow = {"init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    return models.get_model(name, weights=None, num_classes=classes, **slow).eval()


def stirred(module, seed):
    """Change every number that is saved a little, so that nothing equals its initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(_stir(tensor, generator))
    return module


def _stir(tensor, generator):
    noise = torch.rand(tensor.shape, generator=generator)
    return torch.addcmul(tensor, tensor, noise, value=0.1).add_(noise, alpha=0.001)


def _averaged(state):
    """Other numbers for the same network; one tensor under two names stays one, and torch's notes beside them stay."""
    generator = torch.Generator().manual_seed(2)
    averaged = copy.copy(state)
    made = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape)
        if key not in made:
            made[key] = _stir(tensor, generator) if tensor.is_floating_point() else tensor
        averaged[name] = made[key]
    return averaged


def write(path, form, source, true):
    """Save the tensors that are to be loaded, `true`, with all that stands around them in this form.

    Args:
        path: the file.
        form: one of `FORMS`.
        source: the network whose parts wrap them.
        true: its state dict; for "ema" the averaged one, beside which the network's own is saved.
    """
    if form == "safetensors":
        save_file({name: tensor.clone().contiguous() for name, tensor in true.items()}, path)
        return
    saved = {
        "bare": lambda: true,
        "head": lambda: true,
        "nested": lambda: {"state_dict": true},
        "prefixed": lambda: _wrapped(source).state_dict(),
        "ema": lambda: {"state_dict": source.state_dict(), "state_dict_ema": true},
        "training": lambda: _training(source, true),
    }
    torch.save(saved[form](), path)


def _wrapped(source):
    """As a trainer's module inside of DataParallel: `module.model.`."""
    inner, outer = nn.Module(), nn.Module()
    inner.model = source
    outer.module = inner
    return outer


def _training(source, true):
    parameters = list(source.parameters())
    momentum = {n: {"momentum_buffer": torch.full_like(tensor, 0.5)} for n, tensor in enumerate(parameters)}
    group = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "params": list(range(len(parameters)))}
    return {
        "model": true,
        "optimizer": {"state": momentum, "param_groups": [group]},
        "lr_scheduler": {"milestones": collections.Counter({30: 1}), "last_epoch": 3, "base_lrs": [0.1]},
        "epoch": 3,
        "args": argparse.Namespace(batch_size=64, lr=0.1, output_dir="runs"),
        "best_acc": np.float64(0.5),
    }


def _trip(architecture, form, path, target, true, image, expected):
    try:
        checkpoint = regraft.read_checkpoint(path)
        began = time.perf_counter()
        identity = regraft.identify(checkpoint.state_dict, modules=checkpoint.part.modules, hints=())
        seconds = time.perf_counter() - began
    except RegraftError as error:
        return Trip(architecture, form, problem=str(error))
    names = [(guess.architecture, *guess.same_as) for guess in identity.guesses]
    told = {
        "place": next((place for place, same in enumerate(names, 1) if architecture in same), 0),
        "named": names[0][0] if names else "",
        "certainty": identity.certainty,
        "classes": identity.classes,
        "identify_seconds": seconds,
    }
    _spoil(target)  # nothing may be left of the form before
    try:
        report = regraft.match(checkpoint.state_dict, target, allow_partial=1, head=())
        other = regraft.read_checkpoint(path, part="state_dict").state_dict if form == "ema" else {}
    except RegraftError as error:
        return Trip(architecture, form, **told, problem=str(error))
    unlike = [name for name, tensor in other.items() if torch.equal(tensor, true[name]) and _telling(tensor)]
    with torch.inference_mode():
        difference = (target(image) - expected).abs().max().item()
    return Trip(
        architecture,
        form,
        **told,
        share=report.share,
        complete=report.complete,
        equal=all(torch.equal(tensor, true[name]) for name, tensor in target.state_dict().items()),
        difference=difference,
        problem=f"the raw part has the averaged numbers of {unlike[0]}" if unlike else "",
    )


def _telling(tensor):
    """Whether its numbers were changed for the averaged weights."""
    return tensor.is_floating_point() and tensor.numel() > 0


def _spoil(module):
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)


def _loaded_by_torch(target, state, image):
    kept = copy.copy(state)  # with the versions that torch notes beside the tensors
    for name in state.keys() - target.state_dict().keys():
        del kept[name]
    target.load_state_dict(kept)
    with torch.inference_mode():
        return target(image)


def _first_output(architecture, target, state):
    """One random image of the smallest size that the network takes, and the output for it."""
    size = fixed_size(architecture) if architecture.startswith("timm/") else _fixed(target)
    refusal = None
    for height, width in [size] if size else [(side, side) for side in _SIDES]:
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(3))
        try:
            output = _loaded_by_torch(target, state, image)
        except _REFUSALS as error:
            refusal = error
            continue
        if torch.isfinite(output).all() and output.std() > 0:
            return image, output
    raise AssertionError(f"{architecture} gives no finite output for any size of image") from refusal


def _fixed(module):
    side = getattr(module, "image_size", None)  # torchvision's vision transformers
    return (side, side) if side else (224, 224) if isinstance(module, models.MaxVit) else None


def _own_difference(architecture, source, image, expected):
    """Against the features that the source has before its classifier, asked for in its zoo's own way."""
    with torch.inference_mode():
        if architecture.startswith("timm/"):
            try:
                features = source.forward_head(source.forward_features(image), pre_logits=True)
            except (TypeError, AttributeError, *_REFUSALS):
                return None
        else:
            features = _without_last_layer(source)(image)
    same = isinstance(features, torch.Tensor) and features.numel() == expected.numel()
    return (features.reshape(expected.shape) - expected).abs().max().item() if same else None


def _without_last_layer(source):
    source = copy.deepcopy(source)
    if hasattr(source, "transform_input"):
        source.transform_input = True  # as all published weights have it
    if isinstance(source, models.SqueezeNet):
        source.classifier[1] = nn.Identity()
    elif isinstance(source, models.VisionTransformer):
        source.heads.head = nn.Identity()
    elif isinstance(getattr(source, "classifier", None), nn.Sequential):
        source.classifier[-1] = nn.Identity()
    else:
        (name,) = {"classifier", "fc", "head"} & {name for name, _ in source.named_children()}
        setattr(source, name, nn.Identity())
    return source
