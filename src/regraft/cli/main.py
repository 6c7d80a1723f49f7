"""`regraft`: the verbs, their help, and how errors are told."""

from __future__ import annotations

import os
import sys
import time

STARTED = time.perf_counter()
"""When the program started, so that the time for imports is counted."""

import cyclopts  # noqa: E402 - the clock starts before imports

import regraft  # noqa: E402
from regraft.errors import RegraftError, TrainingStopped  # noqa: E402

_USER_ERROR, _BUG, _INTERRUPTED = 2, 70, 130

app = cyclopts.App(
    name="regraft",
    help="Graft pretrained vision models onto your own images.\n\nBegin with: regraft train sample:textile",
    version=regraft.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for _verb, _what, _example in (
    ("train", "Train a model on labelled images.", "train photos/ --backbone timm/resnet34.a1_in1k --strategy svm"),
    ("compare", "Find out which method to trust, on the same splits.", "compare photos/ --budget 5m"),
    ("rank", "Rank pretrained backbones by how well they suit your images.", "rank photos/"),
    ("check", "Find what is wrong with your data.", "check photos/ --clean cleaned.csv"),
    ("evaluate", "Measure a trained model, on its own test images or on others.", "evaluate runs/photos other_photos/"),
    ("predict", "Predict images with a trained model.", "predict runs/photos a.jpg folder/ -o predictions.csv"),
    ("report", "Show what a run found, and where its page is.", "report runs/photos --open"),
    ("lr-find", "Find a learning rate for training a network.", "lr-find photos/ -o lr.png"),
    ("embed", "Write the features of images to a file.", "embed photos/ -o features.npz"),
    ("show", "Show a batch of labelled images.", "show photos/ -o batch.png"),
    ("backbones", "List pretrained networks, or take one apart.", "backbones 'timm/resnet*'"),
    ("manifest", "Turn one description of labelled images into another.", "manifest photos/ -o photos.csv"),
    ("cache", "Show and prune the features and models that are kept.", "cache --prune --older-than 30"),
):
    _module = _verb.replace("-", "_")
    app.command(
        f"regraft.cli.{_module}:{_module}", name=_verb, help=_what, help_epilogue=f"Example: regraft {_example}"
    )
checkpoint = cyclopts.App(
    name="checkpoint", help="Say what a weights file is, what of it fits a network, or make a clean file of it."
)
app.command(checkpoint)
for _verb, _what, _example in (
    ("inspect", "Say what a weights file holds and which network it is of.", "inspect model.pth"),
    ("match", "Say what of a weights file fits a network.", "match model.pth --to timm/resnet34"),
    ("convert", "Write the backbone of a weights file as clean safetensors.", "convert model.pth -o clean.safetensors"),
):
    checkpoint.command(
        f"regraft.cli.checkpoint:{_verb}",
        name=_verb,
        help=_what,
        help_epilogue=f"Example: regraft checkpoint {_example}",
    )


def main() -> None:
    """Run a verb; exit with 0, with 1 when some images failed, with 2 when the user must change something."""
    try:
        sys.exit(
            app(sys.argv[1:], exit_on_error=False, print_error=True, result_action="return_int_as_exit_code_else_zero")
        )
    except cyclopts.CycloptsError:
        sys.exit(_USER_ERROR)  # told already, with the place in the command line
    except TrainingStopped as error:
        _tell(f"regraft: {error}")
        sys.exit(128 + error.signal)
    except RegraftError as error:
        _tell(f"regraft: {error}")
        sys.exit(_USER_ERROR)
    except KeyboardInterrupt:
        _tell("regraft: interrupted; what was computed so far is kept for the next time")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_INTERRUPTED)
    except OSError as error:
        if os.environ.get("REGRAFT_DEBUG"):
            raise
        _tell(f"regraft: {error.filename or ''}: {error.strerror or error}")
        sys.exit(_USER_ERROR)
    except Exception as error:
        if os.environ.get("REGRAFT_DEBUG"):
            raise
        _tell(f"regraft: this is a bug in Regraft: {type(error).__name__}: {error}")
        _tell("Set REGRAFT_DEBUG=1 and run it again for the details to report.")
        sys.exit(_BUG)


def _tell(line: str) -> None:
    sys.stderr.write(line.encode("utf-8", "backslashreplace").decode() + "\n")


if __name__ == "__main__":
    main()
