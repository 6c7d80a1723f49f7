"""Losses of masks by name: "ce", "focal", "dice" and weighted sums of them such as "ce+0.5*dice"."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.nn import functional

from regraft.errors import OptionError
from regraft.losses.dice import dice
from regraft.losses.focal import focal
from regraft.losses.ignored import IGNORED, labelled_mean

if TYPE_CHECKING:
    from torch import Tensor

_OPTIONS: dict[str, dict[str, Any]] = {
    "ce": {},
    "focal": {"gamma": 2.0},
    "dice": {"classes": ("changed", "all"), "smooth": 1.0},
}
"""The losses there are, with their options: a number's default, or the words allowed, the default first."""

_EXAMPLES = "Expected ce, focal or dice, or a sum such as ce+dice, 0.5*ce+dice or focal:gamma=2."


def pixel_cross_entropy(logits: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over labelled pixels in nats, in float32; the weighted mean with weights; 0 without any.

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64, 255 where a pixel does not count.
        weights: (K,) of the classes, or None.
    """
    losses = functional.cross_entropy(logits.float(), targets, reduction="none", ignore_index=IGNORED)
    return labelled_mean(losses, targets, weights)


@dataclass(frozen=True)
class Term:
    """One loss of a sum.

    Attributes:
        factor: what it is multiplied by.
        name: ce, focal or dice.
        options: names and values that differ from the defaults.
    """

    factor: float
    name: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class PixelLoss:
    """A sum of losses of masks.

    Attributes:
        terms: at least one.
    """

    terms: tuple[Term, ...]

    @property
    def text(self) -> str:
        """What `parse_loss` makes this of."""
        return "+".join(_term_text(term) for term in self.terms)

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss, a scalar in float32; 0 with a gradient of 0 where no pixel is labelled.

        Args:
            logits: (B, K, H, W).
            targets: (B, H, W) int64, 255 where a pixel does not count.
            weights: (K,) of the classes, or None; dice, which weighs classes by itself, has no use for them.
        """
        total = logits.new_zeros((), dtype=logits.float().dtype)
        for term in self.terms:
            total = total + term.factor * _value(term, logits, targets, weights)
        return total


def _value(term: Term, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    options: dict[str, Any] = dict(term.options)
    if term.name == "dice":
        return dice(logits, targets, **options)
    if term.name == "focal":
        return focal(logits, targets, weights=weights, **options)
    return pixel_cross_entropy(logits, targets, weights=weights)


def _term_text(term: Term) -> str:
    options = ",".join(f"{name}={value if isinstance(value, str) else f'{value:g}'}" for name, value in term.options)
    return ("" if term.factor == 1 else f"{term.factor:g}*") + term.name + (f":{options}" if options else "")


def parse_loss(text: str) -> PixelLoss:
    """Read a sum of losses: terms `[factor*]name[:option=value,...]` joined by +.

    Options: `gamma` of focal; `classes` (changed or all) and `smooth` of dice.

    Raises:
        OptionError: an unknown loss or option, or a value that is not taken.
    """
    return PixelLoss(tuple(_term(part.strip(), text) for part in text.split("+")))


def _term(part: str, whole: str) -> Term:
    weight, star, rest = part.partition("*")
    factor = _number(weight, "factor", whole) if star else 1.0
    name, _, told = (rest if star else part).partition(":")
    name = name.strip()
    if name not in _OPTIONS:
        near = difflib.get_close_matches(name, _OPTIONS, 1)
        raise OptionError(f"--loss {whole!r}: there is no loss {name!r}{_meant(near)} {_EXAMPLES}")
    options = {}
    for option in told.split(",") if told.strip() else []:
        key, _, value = (piece.strip() for piece in option.partition("="))
        known = _OPTIONS[name]
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            takes = f"takes {', '.join(known)}" if known else "takes no options"
            raise OptionError(f"--loss {whole!r}: {name} has no option {key!r}{_meant(near)} It {takes}.")
        options[key] = _option(key, value, known[key], whole)
    defaults = {key: value[0] if isinstance(value, tuple) else value for key, value in _OPTIONS[name].items()}
    return Term(factor, name, tuple((key, value) for key, value in options.items() if value != defaults[key]))


def _option(key: str, value: str, known: Any, whole: str) -> Any:
    if not isinstance(known, tuple):
        return _number(value, key, whole, zero=key == "gamma")
    if value not in known:
        raise OptionError(f"--loss {whole!r}: {key} is {value!r}; expected {' or '.join(known)}.")
    return value


def _number(text: str, what: str, whole: str, *, zero: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 or (zero and value == 0)) or math.isinf(value):
        raise OptionError(
            f"--loss {whole!r}: {what} is {text!r}; expected a number {'of 0 or more' if zero else 'above 0'}."
        )
    return value


def _meant(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else "."
