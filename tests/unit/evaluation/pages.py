"""Reports to test with, and what a test asks of a page."""

from html.parser import HTMLParser

import numpy as np
from PIL import Image

from regraft.backbones.backbone import BackboneCard
from regraft.backbones.preprocessing import Preprocessing
from regraft.data.manifest import Skipped
from regraft.errors import ImageRejected
from regraft.evaluation.metrics import evaluate
from regraft.evaluation.predictions import Predictions
from regraft.evaluation.report import DecodeNote, Report, write_report

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "{{ 7*7 }}{% raw %}",
    "猫咪",
    "caf\udce9",
    "turned\u202eround",
    "A&B 'quoted'\x07",
)
CARD = BackboneCard(
    name="efficientnet_lite0",
    architecture="efficientnet_lite0",
    weights="lite0.pth",
    weights_file="lite0.pth",
    weights_sha256="ab" * 32,
    licence="Apache-2.0",
    preprocessing=Preprocessing((224, 224), 256, "shorter", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    feature_dim=1280,
    parameters=3_371_024,
    stages=(),
    versions={},
)


class Page(HTMLParser):
    """What a test asks of a page: tags in order, with attributes; visible text; tags left open."""

    VOID = frozenset({"meta", "img", "br", "wbr", "input", "hr", "link"})
    SVG = frozenset({"use", "circle", "rect", "path", "polyline"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.wrong, self.text = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID | self.SVG:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in self.VOID | self.SVG:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append((tag, self.getpos()))

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def thumbnail(path):
    if "broken" in path:
        raise ImageRejected(path, "truncated after 12 bytes")
    if "strange" in path:
        raise RuntimeError("nobody thought of this")
    colour = tuple(sum(path.encode("utf-8", "surrogatepass")) * k % 256 for k in (3, 5, 7))
    return Image.new("RGB", (320, 200), colour)


def report_of(classes, n=60, seed=0, strength=1.5, **changes):
    rng = np.random.default_rng(seed)
    k = len(classes)
    targets = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), targets] += strength
    predictions = Predictions(
        paths=tuple(f"data/val/image{i}.jpg" for i in range(n)),
        keys=tuple(f"{i:064x}" for i in range(n)),
        classes=tuple(classes),
        targets=targets,
        logits=logits,
    )
    values = {
        "title": "linear-probe on something",
        "command": "regraft train DATA --seed 0",
        "evaluation": evaluate(predictions, split="val"),
        "predictions": predictions,
        "batch": tuple((f"data/train/image{i}.jpg", classes[i % k]) for i in range(6)),
        "features": rng.normal(size=(n, 16)).astype(np.float32),
        "class_sizes": {"train": dict.fromkeys(classes, 20), "val": {c: i + 1 for i, c in enumerate(classes)}},
        "split_note": "as given",
        "selection": "Strength chosen by cross-validation.",
        "chosen": {"strength": 0.1},
        "history": [{"strength": 10.0**-i, "mean": abs(i - 1) + 0.5} for i in range(4)],
        "skipped": (Skipped("data/.hidden", "hidden"), Skipped("data/notes.txt", "not an image")),
        "rejected": (Skipped("data/train/half.jpg", "truncated"),),
        "decode_notes": (DecodeNote("turned upright", 3, ("data/train/a.jpg",)),),
        "timings": {"import": 0.31, "decode and inference": 2.84, "fit": 0.4},
        "environment": {"regraft": "0.1.0", "runtime": "OpenVINO f32"},
        "backbones": (CARD,),
    }
    return Report(**{**values, **changes})


def written(report, tmp_path):
    target = tmp_path / "report.html"
    write_report(report, target, thumbnail=thumbnail)
    return target.read_text(encoding="utf-8")
