"""A backbone and a head as one."""

import timm
import torch

from regraft.models.classifier import Classifier
from regraft.models.heads import make_head


def test_logits_are_the_heads_of_the_backbones_features():
    backbone = timm.create_model("test_resnet", num_classes=0).eval()
    head = make_head("mlp", backbone.num_features, 3, seed=0)
    torch.nn.init.normal_(head[-1].weight)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = head(backbone(images))
        found = Classifier(backbone, head).eval()(images)
    assert found.shape == (2, 3)
    assert torch.equal(found, expected)


def test_names_tell_backbone_and_head_apart():
    model = Classifier(torch.nn.Flatten(), make_head("linear", 12, 2, seed=0))
    assert list(model.state_dict()) == ["head.weight", "head.bias"]


def test_the_head_computes_in_single_precision_under_autocast():
    backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    head = make_head("linear", 4, 2, seed=0)
    torch.nn.init.normal_(head.weight)
    images = torch.randn(5, 3, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        features, logits = backbone(images), Classifier(backbone, head)(images)
    assert features.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(features.float()))
