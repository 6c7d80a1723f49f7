"""Names that one library gave to the tensors of a network, in the words of another: one family a file."""

from regraft.checkpoints.translations.catalogue import TRANSLATIONS, translations_for
from regraft.checkpoints.translations.origin import Origin, Translation, with_eps

__all__ = ["TRANSLATIONS", "Origin", "Translation", "translations_for", "with_eps"]
