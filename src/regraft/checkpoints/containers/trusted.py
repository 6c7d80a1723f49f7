"""Files that the user trusts as a program: unpickled in full, which runs the code that they choose."""

from __future__ import annotations

import pickle
import warnings
from typing import TYPE_CHECKING

from regraft.checkpoints.containers.values import Content
from regraft.checkpoints.shown import shown
from regraft.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_DEEPEST = 8


def read(path: Path, *, torch_form: bool) -> Content:
    """Unpickle a file and take the state dicts of the networks in it.

    Args:
        path: the file.
        torch_form: False for a plain pickle.

    Raises:
        CheckpointError: a class that it needs cannot be imported, or the unpickling fails in any way.
    """
    import torch
    from torch import nn

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own deprecations, not of the file
            if torch_form:
                with path.open("rb") as handle:
                    value = torch.load(handle, map_location="cpu", weights_only=False)
            else:
                value = pickle.loads(path.read_bytes())  # noqa: S301 (the user's explicit flag)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path} needs the module {shown(error.name or str(error))}, which is not installed. Install its package,"
            " or start from the folder of the code that made the file."
        ) from error
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be loaded, trusted as it is: {shown(f'{type(error).__name__}: {error}')}. The code that"
            " made it may be another version or not importable from here."
        ) from error
    name = "pickled model" if isinstance(value, nn.Module) else "pickle with foreign classes"
    return Content(name, _states(value, 0), hints=(type(value).__name__,) if isinstance(value, nn.Module) else ())


def _states(value: object, depth: int) -> object:
    """The same, with each network replaced by its state dict."""
    from torch import nn

    if isinstance(value, nn.Module):
        return value.state_dict()
    if isinstance(value, dict) and depth < _DEEPEST and not hasattr(value, "_metadata"):
        return {key: _states(inner, depth + 1) for key, inner in value.items()}
    return value
