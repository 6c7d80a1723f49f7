"""Runtimes agree with plain torch; conversion is paid once and checked."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from regraft.backbones.backbone import Backbone, BackboneCard
from regraft.backbones.preprocessing import Preprocessing
from regraft.errors import OptionError
from regraft.features import convert
from regraft.features.convert import converted
from regraft.features.frozen import frozen
from regraft.features.runtime import OpenVinoRuntime, TorchRuntime, choose_runtime

PREPROCESSING = Preprocessing((32, 32), 36, "shorter", "bicubic", (0.48, 0.45, 0.4), (0.2, 0.22, 0.25))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


def card(**changes):
    facts = {
        "name": "tiny",
        "architecture": "test/tiny",
        "weights": "random",
        "weights_file": "",
        "weights_sha256": "a" * 64,
        "licence": "none",
        "preprocessing": PREPROCESSING,
        "feature_dim": 5,
        "parameters": 0,
        "stages": (),
        "versions": {},
    }
    return BackboneCard(**{**facts, **changes})


def images(count=5):
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def plain_torch(module, batch):
    with torch.inference_mode():
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).double() / 255
        mean, std = torch.tensor(PREPROCESSING.mean).double(), torch.tensor(PREPROCESSING.std).double()
        normalised = (pixels - mean[:, None, None]) / std[:, None, None]
        return module.double()(normalised).numpy()


def rows_of(runtime, batch):
    rows = {}
    runtime.run(len(batch), lambda n: [(n, batch[n])], rows.__setitem__)
    return np.stack([rows[n] for n in range(len(batch))])


@pytest.fixture(scope="module")
def form(tmp_path_factory):
    return converted(card(), lambda: Backbone(card(), network()), tmp_path_factory.mktemp("cache"))


def start(kind, form):
    return OpenVinoRuntime(form.model, PREPROCESSING) if kind == "openvino" else TorchRuntime(network(), PREPROCESSING)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_runtimes_equal_torch_in_double_precision(form, kind):
    runtime = start(kind, form)
    assert runtime.precision == "f32"
    expected = plain_torch(network(), images(19))
    np.testing.assert_allclose(rows_of(runtime, images(19)), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_a_row_does_not_depend_on_its_company(form, kind):
    runtime = start(kind, form)
    batch = images(11)
    together = rows_of(runtime, batch)
    alone = np.concatenate([rows_of(runtime, batch[n : n + 1]) for n in range(11)])
    assert np.array_equal(together, alone)
    assert np.array_equal(rows_of(runtime, batch[::-1])[::-1], together)


def test_runtime_passes_errors_on_and_can_be_used_again(form):
    runtime = OpenVinoRuntime(form.model, PREPROCESSING)

    def broken(n):
        if n == 7:
            raise ValueError("no more")
        return [(n, images(1)[0])]

    with pytest.raises(ValueError, match="no more"):
        runtime.run(1000, broken, lambda index, row: None)
    assert rows_of(runtime, images(3)).shape == (3, 5)


def test_conversion_is_paid_once_and_reports_its_error(tmp_path):
    built = []

    def build():
        built.append(1)
        return Backbone(card(), network())

    first = converted(card(), build, tmp_path)
    second = converted(card(), build, tmp_path)
    assert first == second
    assert len(built) == 1
    assert first.model.exists()
    assert "largest relative difference from torch" in first.note
    converted(card(weights_sha256="b" * 64), build, tmp_path)
    assert len(built) == 2


def test_a_bundle_cannot_pass_for_other_weights(tmp_path):
    """Weights that come with a bundle are named by their own hash, whatever its card says."""
    ours = converted(card(), lambda: Backbone(card(), network(0)), tmp_path)
    strangers = converted(card(), lambda: Backbone(card(), network(1)), tmp_path, state_sha256="c" * 64)
    assert strangers.weights != ours.weights
    assert strangers.state_sha256 == "c" * 64
    found = converted(card(), lambda: pytest.fail("is there"), tmp_path, state_sha256=ours.state_sha256)
    assert found == ours


def test_inexact_conversion_falls_back_to_torch(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_TOLERANCE", 0.0)
    module = network()
    ready = frozen(card(), lambda: Backbone(card(), module), tmp_path)
    assert ready.spaces[0].runtime == "torch"
    assert "differ" in ready.notes[0]
    assert isinstance(ready.runtime(), TorchRuntime)


def test_unconvertible_network_falls_back_to_torch(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.from_numpy(np.asarray(x.mean((2, 3))).copy())  # leaves torch, which no tracer follows

    odd = nn.Sequential(nn.Conv2d(3, 5, 1), Odd()).eval()
    ready = frozen(card(), lambda: Backbone(card(), odd), tmp_path)
    if ready.spaces[0].runtime == "torch":  # else the tracer recorded a constant, which the check must have caught
        assert "torch runs it instead" in ready.notes[-1]
    assert ready.spaces[0].runtime == "torch"


def test_saved_model_is_f32(form):
    import openvino as ov

    kinds = {
        node.get_element_type().get_type_name()
        for node in ov.Core().read_model(form.model).get_ops()
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) == 4
    }
    assert kinds == {"f32"}


def test_openvino_reports_its_use_to_nobody():
    code = (
        "import sys; from regraft.features.runtime import import_openvino; import_openvino();"
        "from openvino.tools.ovc import convert_impl, telemetry_utils;"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__, sys.modules['openvino_telemetry'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2 + ["None"]


def test_unknown_words_are_refused():
    with pytest.raises(OptionError, match="auto, openvino or torch"):
        choose_runtime("onnx")
    with pytest.raises(OptionError, match="'f16' is unknown: use f32, bf16"):
        frozen(card(), lambda: pytest.fail("too late"), None, precision="f16")
    with pytest.raises(OptionError, match="views"):
        frozen(card(), lambda: pytest.fail("too late"), None, views="five-crop")


def test_bf16_is_opt_in_and_says_what_ran(tmp_path):
    ready = frozen(card(), lambda: Backbone(card(), network()), tmp_path, precision="bf16")
    space, runtime = ready.spaces[0], ready.runtime()
    assert runtime.precision == space.precision
    exact = rows_of(frozen(card(), lambda: Backbone(card(), network()), tmp_path).runtime(), images())
    np.testing.assert_allclose(rows_of(runtime, images()), exact, rtol=0, atol=0.05)
    if space.precision == "f32":
        assert any("no bf16" in note for note in ready.notes)
