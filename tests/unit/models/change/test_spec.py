"""The sentence that names a network."""

import json

import pytest

from regraft.errors import OptionError
from regraft.models.change.bit import BitOptions
from regraft.models.change.difference import LinearOptions
from regraft.models.change.spec import ModelSpec, NeckOptions, parse_model
from regraft.models.change.unet import UnetOptions


def test_a_kind_alone_has_all_defaults():
    assert parse_model("bit") == ModelSpec("bit", BitOptions(), NeckOptions())
    assert parse_model(" unet ") == ModelSpec("unet", UnetOptions())
    assert parse_model("linear:") == ModelSpec("linear", LinearOptions())


def test_options_are_read_with_their_types():
    spec = parse_model(
        "bit:token_len=8, decoder_depth=8,encoder=no,decoder_softmax=TRUE,tokens=pool,dropout=.1,neck=last"
    )
    assert spec.options == BitOptions(
        token_len=8, decoder_depth=8, encoder=False, decoder_softmax=True, tokens="pool", dropout=0.1
    )
    assert spec.neck == NeckOptions(neck="last")
    assert parse_model("unet:width=64,finest=4").options == UnetOptions(width=64, finest=4)


@pytest.mark.parametrize(
    "text",
    ["bit", "bit:token_len=8,encoder=no,neck=last,stride=16,keep=upsampling", "unet:finest=4,dropout=0.25", "linear"],
)
def test_text_and_values_lead_back(text):
    spec = parse_model(text)
    assert parse_model(spec.text) == spec
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert len(spec.text) <= len(text)


def test_text_has_only_what_differs_in_one_order():
    assert parse_model("bit:neck=pyramid,encoder=no,token_len=4,stages=5").text == "bit:stages=5,encoder=no"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bti", r"there is no model 'bti'; did you mean bit\? Choose one of bit, unet, linear\."),
        ("", "there is no model ''. Choose one of"),
        (
            "bit:token_length=4",
            r"bit has no option 'token_length'; did you mean token_len\? Its options: stages, .*keep",
        ),
        ("unet:neck=last", r"unet has no option 'neck'.*Its options: stages, finest, width, dropout\."),
        ("bit:token_len=four", "bit:token_len=four is not understood. Expected a whole number."),
        ("unet:dropout=much", "unet:dropout=much is not understood. Expected a number."),
        ("bit:encoder=maybe", "bit:encoder=maybe is not understood. Expected yes or no."),
        (
            "bit:decoder=transfomer",
            r"no bit:decoder=transfomer; did you mean transformer\? Choose one of transformer, simple",
        ),
        ("bit:token_len", "'token_len' in the model 'bit:token_len' has no value"),
        ("bit:token_len=4,token_len=8", "token_len is given twice"),
        ("bit:stride=4", "no bit:stride=4; choose one of 8, 16, 32"),
        ("bit:heads=0", "bit:heads=0 is too small"),
        ("unet:stages=6", "unet:stages=6 is not possible"),
        ("unet:finest=3", "unet:finest=3 is not possible"),
        ("unet:width=0", "unet:width=0 is too small"),
        ("unet:dropout=nan", "unet:dropout=nan is not possible"),
        ("linear:stages=1", "linear:stages=1 is not possible"),
        ("linear:finest=1", "linear:finest=1 is not possible"),
        ("linear:finest=8,stages=2", "linear:finest=8 is coarser than stages=2"),
    ],
)
def test_what_cannot_be_read_is_said(text, message):
    with pytest.raises(OptionError, match=message):
        parse_model(text)


def test_values_of_another_version_are_refused():
    with pytest.raises(OptionError, match="no option 'depth'"):
        ModelSpec.from_dict({"kind": "unet", "depth": 3})
    with pytest.raises(OptionError, match="no model 'None'"):
        ModelSpec.from_dict({})
