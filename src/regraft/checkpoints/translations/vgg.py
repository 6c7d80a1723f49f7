"""VGG: torchvision <-> timm, where the two large layers are convolutions over what a linear layer sees flat."""

from regraft.checkpoints.translations.naming import Naming, renamer, translations

_FEATURES = (r"features\..+", r"\g<0>")

TRANSLATIONS = translations(
    "VGG",
    Naming(
        "torchvision",
        renamer(
            r"classifier\.[036]\.weight",
            _FEATURES,
            (r"classifier\.0\.(\w+)", r"pre_logits.fc1.\1"),
            (r"classifier\.3\.(\w+)", r"pre_logits.fc2.\1"),
            (r"classifier\.6\.(\w+)", r"head.fc.\1"),
        ),
    ),
    Naming("timm", renamer(r"pre_logits\.fc[12]\.", _FEATURES, (r"(?:pre_logits|head)\..+", r"\g<0>"))),
)
