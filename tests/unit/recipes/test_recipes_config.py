import inspect
import math
import os
from pathlib import Path
from typing import Literal

import pytest
import yaml

from regraft.errors import CannotWrite, OptionError
from regraft.recipes.config import merge, options_of, read_config, write_config
from regraft.recipes.train import train


class Listener:
    """Stands for what is no option."""


def bake(
    cake: str | os.PathLike[str] | None = None,
    *,
    lr: float | Literal["auto"] = "auto",
    layers: int = 3,
    sweet: bool = False,
    shape: Literal["round", "no", 7] = "round",
    mean: tuple[float, float, float] | None = None,
    extras: tuple[str, ...] = (),
    budget: str | None = None,
    heat_until: float = 1.0,
    config: str | None = None,
    listener: Listener = Listener(),  # noqa: B008
) -> None:
    """Bake a cake.

    Args:
        cake: Which one, in words
            over two lines.
        lr: How fast.
        sweet: Whether: yes or no.
        listener: Who is told.

    Returns:
        layers: nothing that a comment should say.
    """


@pytest.fixture
def read(tmp_path):
    def read_text(text, function=bake):
        path = tmp_path / "c.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_config(path, function)

    return read_text


def test_values_have_the_types_of_the_parameters(read):
    found = read(
        "cake: photos/tarte\nlr: 1e-3\nlayers: 4\nsweet: true\nshape: no\n"
        "mean: [0.5, 1e-1, .25]\nextras:\n- nuts\n- 7\nheat-until: 200\n"
    )
    assert found == {
        "cake": "photos/tarte",
        "lr": 0.001,
        "layers": 4,
        "sweet": True,
        "shape": "no",
        "mean": (0.5, 0.1, 0.25),
        "extras": ("nuts", "7"),
        "heat_until": 200.0,
    }
    assert type(found["heat_until"]) is float


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("lr: 1e-3", 1e-3),
        ("lr: 1E+2", 100.0),
        ("lr: auto", "auto"),
        ("lr: 3", 3.0),
        ("lr: .inf", math.inf),
        ("budget: 1:30", "1:30"),  # ninety for YAML 1.1
        ("budget: no", "no"),  # false
        ("budget: 010", "010"),  # eight
        ("budget: 2024-01-01", "2024-01-01"),  # a date
        ("budget: 1_000", "1_000"),
        ("budget: '1e-3'", "1e-3"),
        ("budget: null", None),
        ("budget:", None),
        ("budget: 'null'", "null"),
        ("layers: 1_000", 1000),
        ("layers: 010", 10),
        ("sweet: yes", True),
        ("sweet: OFF", False),
        ("shape: 7", 7),
        ("shape: 'no'", "no"),
        ("mean: ~", None),
        ("cake: ~/photos", "~/photos"),
        ("cake: 'C:\\photos'", "C:\\photos"),
        ("cake: 猫/😀", "猫/😀"),
    ],
    ids=str,
)
def test_the_traps_of_yaml_are_none(read, line, value):
    (found,) = read(line).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lr: fast", "lr is 'fast'; expected a number or auto"),
        ("lr: '0.1'", "lr is '0.1'; expected a number or auto"),
        ("lr: true", "lr is true; expected"),
        ("lr: null", "lr is null; expected"),
        ("lr: 0x10", "lr is 0x10; expected"),
        ("layers: 3.0", "layers is 3.0; expected a whole number"),
        ("layers: [3]", r"layers is \[3\]; expected a whole number"),
        (f"layers: {'9' * 5000}", "layers is 9+…; expected a whole number"),
        ("sweet: 1", "sweet is 1; expected true or false"),
        ("sweet:", "sweet is empty; expected true or false"),
        ("shape: square", "shape is 'square'; expected round, no or 7"),
        ("mean: 0.5", r"mean is 0.5; expected a list in brackets of 3 values \(a number\) or null"),
        ("mean: [0.5, 1]", r"mean is \[0.5, 1\]; expected a list"),
        ("mean: [0.5, 1, x]", r"mean is \[0.5, 1, 'x'\]; expected a list"),
        ("budget: {a: b}", "budget is a mapping; expected a text or null"),
        ("extras: nuts", r"extras is 'nuts'; expected a list in brackets of values \(a text\)"),
        ("extras: &a [*a, b]", r"extras is \[…, 'b'\]; expected"),
        ("lr: !!python/object/apply:os.getcwd []", "lr is "),
        ("budget: !!binary aGk=", "budget is binary 'aGk='"),
        ("cake: !local x", "cake is !local 'x'"),
    ],
    ids=lambda text: text[:40],
)
def test_a_value_of_another_type_is_told_with_its_line(read, line, said):
    with pytest.raises(OptionError, match=r"c\.yaml, line 2: " + said) as caught:
        read(f"# a comment\n{line}\n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 1\nswet: true", "line 2: there is no option 'swet'; did you mean sweet"),
        ("qqqq: 1", "line 1: there is no option 'qqqq'; `regraft bake --help` lists them"),
        ("listener: 1", "there is no option 'listener'"),
        ("return: 1", "there is no option 'return'"),
        ("3: 1", "there is no option '3'"),
        ("? [a]\n: 3", "there is no option that is a sequence"),
        ("<<: {lr: 1}", "there is no option '<<'"),
        ("heat_until: 1\nlr: 2\nheat-until: 2", "line 3: heat_until stands in line 1 too"),
        ("- lr", "holds no options"),
        ("only words", "holds no options"),
        ("lr: [", "line 1: this is no YAML"),
        ("lr: 1\n layers: 2", "line 2: this is no YAML"),
        ("lr: 1\n---\nlr: 2", "line 2: this is no YAML"),
        ("lr: *nobody", "line 1: this is no YAML"),
        ("lr: " + "[" * 20_000, "is no YAML"),
        (b"cake: \xff\xfe", "is not UTF-8 text"),
        (b"cake: a\x00b", "is no YAML: special characters"),
        ("config: other.yaml", "line 1: a file of options cannot name another one"),
    ],
    ids=lambda text: str(text)[:30],
)
def test_what_is_no_file_of_options_is_told(read, text, said):
    with pytest.raises(OptionError, match=said) as caught:
        read(text)
    assert "c.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(OptionError, match="does not exist"):
        read_config(tmp_path / "nothing.yaml", bake)
    with pytest.raises(OptionError, match="cannot be read: Is a directory"):
        read_config(tmp_path, bake)


def test_a_file_without_options_has_none(read):
    assert read("") == read("# nothing yet\n") == read(b"\xef\xbb\xbf# with a mark\n") == {}


def test_given_ones_win_over_the_file_and_the_file_over_defaults():
    found = merge(bake, {"lr": "auto", "sweet": False}, {"lr": 0.1, "sweet": True, "layers": 9})
    assert found == {
        **dict.fromkeys(("cake", "mean", "budget", "config")),
        "lr": "auto",
        "layers": 9,
        "sweet": False,
    } | {
        "shape": "round",
        "extras": (),
        "heat_until": 1.0,
    }
    assert list(found) == list(options_of(bake))


OPTIONS = {
    "cake": 'a "b" \\ c # d: 猫 \udcff 😀\x07\u2028\u202e\ufeff\n\ttab ',
    "lr": 1e-05,
    "layers": -12,
    "sweet": True,
    "shape": 7,
    "mean": (1e-300, 0.1 + 0.2, 1e22),
    "extras": ("yes", "null", "~", "1.0", "", "- a", "true", "Ünicode", "a, b", "[x]"),
    "budget": "no",
    "heat_until": math.inf,
    "config": None,
}


def test_what_is_written_is_read_back(tmp_path):
    write_config(tmp_path / "a.yaml", bake, OPTIONS)
    assert read_config(tmp_path / "a.yaml", bake) == OPTIONS
    write_config(tmp_path / "b.yaml", bake, {})
    defaults = {n: p.default for n, p in inspect.signature(bake).parameters.items() if n != "listener"}
    assert read_config(tmp_path / "b.yaml", bake) == defaults
    write_config(tmp_path / "c.yaml", bake, {"cake": Path("runs/ä"), "heat_until": 3})
    assert read_config(tmp_path / "c.yaml", bake) == {**defaults, "cake": "runs/ä", "heat_until": 3.0}


def test_other_readers_understand_what_is_written(tmp_path):
    write_config(tmp_path / "a.yaml", bake, {**OPTIONS, "shape": "no"})
    found = yaml.safe_load((tmp_path / "a.yaml").read_text("utf-8"))
    assert found == {**OPTIONS, "shape": "no", "mean": list(OPTIONS["mean"]), "extras": list(OPTIONS["extras"])}


def test_options_stand_in_order_below_what_they_do(tmp_path):
    write_config(tmp_path / "a.yaml", bake, {"lr": 0.5})
    text = (tmp_path / "a.yaml").read_text("utf-8")
    assert text.startswith("# Options of `regraft bake`")
    assert "# Which one, in words over two lines.\ncake: null\n\n# How fast.\nlr: 0.5\n\nlayers: 3\n\n" in text
    assert "Who is told" not in text
    assert "nothing that a comment should say" not in text
    names = [line.split(":")[0] for line in text.splitlines() if line and not line.startswith("#")]
    assert names == list(options_of(bake))


def test_every_option_of_train_is_written_with_its_help_and_read_back(tmp_path):
    write_config(tmp_path / "train.yaml", train, {"strategy": "finetune", "mean": (0.5, 0.4, 0.3), "lr": 1e-4})
    text = (tmp_path / "train.yaml").read_text("utf-8")
    paragraphs = text.strip().split("\n\n")[1:]
    assert len(paragraphs) == len(options_of(train))
    assert all(paragraph.startswith("# ") for paragraph in paragraphs)
    expected = {n: p.default for n, p in inspect.signature(train).parameters.items() if n != "listener"}
    assert read_config(tmp_path / "train.yaml", train) == {
        **expected,
        "strategy": "finetune",
        "mean": (0.5, 0.4, 0.3),
        "lr": 1e-4,
    }


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="file"):
        write_config(tmp_path / "file" / "a.yaml", bake, {})
