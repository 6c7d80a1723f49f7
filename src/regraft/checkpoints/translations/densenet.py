"""DenseNet: as in the files that torchvision published first -> as in torchvision and timm today.

There a layer's pieces were named `norm.1`, today `norm1` (source: torchvision's own loading of these files).
"""

from regraft.checkpoints.translations.naming import Naming, renamer, translations

TRANSLATIONS = translations(
    "DenseNet",
    Naming(
        "early torchvision",
        renamer(
            r"features\.denseblock\d+\.denselayer\d+\.(?:norm|conv)\.[12]\.",
            (r"(features\.denseblock\d+\.denselayer\d+\.(?:norm|conv))\.([12]\..+)", r"\1\2"),
            (r"(?:features|classifier)\..+", r"\g<0>"),
        ),
    ),
    Naming(
        "torchvision/timm",
        renamer(
            r"features\.denseblock\d+\.denselayer\d+\.(?:norm|conv)[12]\.",
            (r"(?:features|classifier)\..+", r"\g<0>"),
        ),
    ),
)
