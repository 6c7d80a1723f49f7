"""Files that would run commands: zero executions, one clear error each, whatever carries them."""

import contextlib
import pickle
import time

import pytest
from hostile import CARRIERS, in_dict, payloads, whole

from regraft.checkpoints.read import read_checkpoint
from regraft.errors import CheckpointError

NAMES = list(payloads("x"))
pytestmark = [pytest.mark.filterwarnings("ignore:.*torch.jit.*"), pytest.mark.filterwarnings("ignore:.*deprecated.*")]


def _appears(marker, seconds):
    """A started process may take a moment."""
    end = time.monotonic() + seconds
    while not marker.exists() and time.monotonic() < end:
        time.sleep(0.01)
    return marker.exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", NAMES)
def test_every_payload_is_live(tmp_path, name):
    marker = tmp_path / "executed"
    with contextlib.suppress(Exception):  # many fail only after they have run
        pickle.loads(whole(payloads(marker)[name]))
    assert _appears(marker, 10)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("name", NAMES)
def test_no_payload_runs_and_each_gives_one_error(tmp_path, name, carrier):
    marker = tmp_path / "executed"
    path = tmp_path / "weights.pth"
    CARRIERS[carrier](path, in_dict(payloads(marker)[name]))
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    assert message.isprintable()
    assert "never runs" in message
    assert not _appears(marker, 0.02 if "Popen" in name else 0)


@pytest.mark.parametrize("carrier", [carrier for carrier in CARRIERS if carrier != "npz"])
def test_the_error_lists_everything_that_is_asked_for(tmp_path, carrier):
    path = tmp_path / "weights.pth"
    both = b"}(X\x01\x00\x00\x00acomegaconf.dictconfig\nDictConfig\nX\x01\x00\x00\x00bcos\nsystem\nu"
    CARRIERS[carrier](path, whole(both))
    with pytest.raises(CheckpointError, match=r"omegaconf\.dictconfig\.DictConfig, os\.system.*--trust"):
        read_checkpoint(path)


def test_trust_runs_the_same_file(tmp_path):
    """The one flag that does, so that the refusals above say something."""
    marker = tmp_path / "executed"
    path = tmp_path / "weights.pth"
    CARRIERS["zip"](path, in_dict(payloads(marker)["os.system"]))
    with pytest.raises(CheckpointError, match="no tensors"):
        read_checkpoint(path, trust=True)
    assert marker.exists()
