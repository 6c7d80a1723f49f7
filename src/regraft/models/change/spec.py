"""Which network for what changed, as the user writes it: `bit:token_len=4,decoder_depth=8`."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from regraft.errors import OptionError
from regraft.models.change.bit import BitOptions
from regraft.models.change.difference import LinearOptions
from regraft.models.change.unet import UnetOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["bit", "unet", "linear"]
Options = BitOptions | UnetOptions | LinearOptions
_OPTIONS: dict[str, type[Options]] = {"bit": BitOptions, "unet": UnetOptions, "linear": LinearOptions}
_YES, _NO = {"yes", "true", "1"}, {"no", "false", "0"}
_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class NeckOptions:
    """What BIT is given of the backbone.

    Attributes:
        neck: "pyramid": the maps from stride 4 on, summed at stride 4; "last": the last one alone, as published.
        stride: with "last": the stride that is kept, 8, 16 or 32.
        keep: with "last": what keeps it, "dilation" or "upsampling".
    """

    neck: Literal["pyramid", "last"] = "pyramid"
    stride: int = 8
    keep: Literal["dilation", "upsampling"] = "dilation"

    def __post_init__(self) -> None:
        """Raise OptionError for a value that no network can have."""
        for name, known in (("neck", ("pyramid", "last")), ("stride", _STRIDES), ("keep", ("dilation", "upsampling"))):
            if getattr(self, name) not in known:
                told = ", ".join(str(one) for one in known)
                raise OptionError(f"there is no bit:{name}={getattr(self, name)}; choose one of {told}.")


@dataclass(frozen=True)
class ModelSpec:
    """A network for what changed.

    Attributes:
        kind: "bit", "unet" or "linear".
        options: of its head.
        neck: for "bit"; None for the others, which take all maps.
    """

    kind: Kind
    options: Options
    neck: NeckOptions | None = None

    @property
    def text(self) -> str:
        """As `parse_model` takes it, with what differs from the defaults alone."""
        told = [
            f"{field.name}={_written(value)}"
            for part in (self.options, self.neck)
            if part is not None
            for field in fields(part)
            if (value := getattr(part, field.name)) != field.default
        ]
        return f"{self.kind}:{','.join(told)}" if told else self.kind

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the kind and every option."""
        return {"kind": self.kind, **asdict(self.options), **(asdict(self.neck) if self.neck else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """From the JSON values that `to_dict` gave; an option that is not there has its default.

        Raises:
            OptionError: an unknown kind or option, or an impossible value.
        """
        kind = str(values.get("kind"))
        rest = {name: value for name, value in values.items() if name != "kind"}
        return parse_model(f"{kind}:{','.join(f'{name}={_written(value)}' for name, value in rest.items())}")


def parse_model(text: str) -> ModelSpec:
    """Read `KIND` or `KIND:OPTION=VALUE,...`.

    Args:
        text: KIND is bit, unet or linear; the options are the fields of `BitOptions` and `NeckOptions`, `UnetOptions`
            or `LinearOptions`. Truth values are yes, no, true or false.

    Raises:
        OptionError: an unknown kind or option (with the nearest and all known ones), or an impossible value.
    """
    kind, _, rest = text.strip().partition(":")
    if kind not in _OPTIONS:
        raise OptionError(f"there is no model {kind!r}{_near(kind, _OPTIONS)} Choose one of {', '.join(_OPTIONS)}.")
    known: dict[str, Any] = get_type_hints(_OPTIONS[kind])
    necks: dict[str, Any] = get_type_hints(NeckOptions) if kind == "bit" else {}
    given: dict[str, Any] = {}
    for part in (one.strip() for one in rest.split(",") if one.strip()):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise OptionError(f"{part!r} in the model {text!r} has no value: write {kind}:OPTION=VALUE,OPTION=VALUE.")
        if name not in {**known, **necks}:
            every = ", ".join([*known, *necks])
            raise OptionError(f"{kind} has no option {name!r}{_near(name, [*known, *necks])} Its options: {every}.")
        if name in given:
            raise OptionError(f"{name} is given twice in the model {text!r}: keep one of them.")
        given[name] = _read(kind, name, value, {**known, **necks}[name])
    options = _OPTIONS[kind](**{name: value for name, value in given.items() if name in known})
    neck = NeckOptions(**{name: value for name, value in given.items() if name in necks}) if necks else None
    return ModelSpec(kind, options, neck)  # type: ignore[arg-type]  # a key of _OPTIONS


def _read(kind: str, name: str, value: str, wanted: Any) -> Any:
    """A value of the type that the option has."""
    if allowed := get_args(wanted):
        if value not in allowed:
            raise OptionError(
                f"there is no {kind}:{name}={value}{_near(value, allowed)} Choose one of {', '.join(allowed)}."
            )
        return value
    if wanted is bool:
        if value.lower() not in _YES | _NO:
            raise OptionError(f"{kind}:{name}={value} is not understood. Expected yes or no.")
        return value.lower() in _YES
    try:
        return wanted(value)
    except ValueError as error:
        kinds = {int: "a whole number", float: "a number"}
        raise OptionError(f"{kind}:{name}={value} is not understood. Expected {kinds[wanted]}.") from error


def _written(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _near(name: str, known: Any) -> str:
    """The known name that is nearest to an unknown one, as the end of a sentence; a full stop if none is near."""
    near = difflib.get_close_matches(name, [str(one) for one in known], 1)
    return f"; did you mean {near[0]}?" if near else "."
