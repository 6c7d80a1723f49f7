"""States: tensors and JSON without pickle, complete or absent; no failing write touches the best weights."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from regraft.errors import CannotWrite, CheckpointError
from regraft.training import state as states
from regraft.training.state import State


def facts(step, best=None):
    return {"step": step, "best": None if best is None else {"step": best, "epoch": 1, "value": 0.5}}


def weights(value):
    return {"model/w": torch.full((3, 2), float(value)), "model/n": torch.tensor(value)}


def test_what_is_saved_comes_back(tmp_path):
    tensors = {
        "model/conv": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "model/half": torch.randn(5).bfloat16(),
        "model/count": torch.tensor(7),
        "random/0/torch": torch.get_rng_state(),
    }
    states.save(tmp_path, State(tensors, facts(3)), None)
    found, notes = states.newest(tmp_path)
    assert notes == []
    assert found.facts["step"] == 3
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor), name
        assert found.tensors[name].dtype == tensor.dtype
    assert found.part("model").keys() == {"conv", "half", "count"}


def test_no_pickle_is_in_the_file(tmp_path):
    states.save(tmp_path, State(weights(1), facts(1)), None)
    (path,) = states.states(tmp_path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert set(header) == {"__metadata__", "model/w", "model/n"}
    assert json.loads(header["__metadata__"]["facts"])["step"] == 1
    assert len(data) == 8 + length + 3 * 2 * 4 + 8


def test_the_last_ones_are_kept_and_the_best_that_they_name(tmp_path):
    for step, best in ((1, 1), (2, 1), (3, 3), (4, 3), (5, 5)):
        new = {"w": torch.tensor([float(step)])} if best == step else None
        states.save(tmp_path, State(weights(step), facts(step, best)), new, keep=2)
    assert [p.name for p in states.states(tmp_path)] == ["state-00000005.safetensors", "state-00000004.safetensors"]
    assert sorted(p.name for p in tmp_path.glob("best-*")) == [states.best_name(3), states.best_name(5)]


def test_a_damaged_state_gives_way_to_the_one_before_it(tmp_path):
    for step in (1, 2):
        states.save(tmp_path, State(weights(step), facts(step)), None)
    path = states.states(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-5])
    found, notes = states.newest(tmp_path)
    assert found.facts["step"] == 1
    assert len(notes) == 1
    assert "state-00000002" in notes[0]


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "FORMAT", 99)
    states.save(tmp_path, State(weights(1), facts(1)), None)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="99"):
        states.read_tensors(states.states(tmp_path)[0])


def test_random_states_continue_where_they_were():
    torch.manual_seed(1)
    np.random.seed(2)  # noqa: NPY002
    random.seed(3)
    np.random.randn(1)  # noqa: NPY002 - leaves half a pair of normal numbers behind
    random.gauss(0, 1)
    kept = states.random_states()

    def draw():
        numbers = [np.random.randn(3).tolist(), [random.gauss(0, 1) for _ in range(3)]]  # noqa: NPY002
        return torch.rand(3).tolist(), numbers

    first = draw()
    draw()
    states.set_random_states(kept)
    assert draw() == first


def test_a_full_disk_leaves_what_was_there(tmp_path):
    states.save(tmp_path, State(weights(1), facts(1, 1)), {"w": torch.ones(2)})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    code = """
        import resource, sys, signal
        from pathlib import Path
        import torch
        from regraft.errors import CannotWrite
        from regraft.training import state as states
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # writes beyond it fail as on a full disk
        big = {"model/w": torch.zeros(1_000_000)}
        try:
            states.save(Path(sys.argv[1]), states.State(big, {"step": 2, "best": {"step": 2}}), {"w": torch.ones(9)})
        except CannotWrite as error:
            print(error)
    """
    words = [sys.executable, "-c", textwrap.dedent(code), tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "state-00000002.safetensors cannot be written" in done.stdout, done.stderr
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert before.items() <= after.items()
    found, _ = states.newest(tmp_path)
    assert found.facts["step"] == 1
    assert torch.equal(states.read_tensors(tmp_path / states.best_name(1)).tensors["w"], torch.ones(2))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        states.save(tmp_path / "file" / "inside", State(weights(1), facts(1)), None)


def test_killing_the_writer_at_any_moment_leaves_a_complete_state(tmp_path):
    code = """
        import sys, torch
        from pathlib import Path
        from regraft.training import state as states
        torch.set_num_threads(1)
        print("ready", flush=True)
        for step in range(1, 10_000):
            tensors = {"model/w": torch.full((200_000,), float(step))}
            best = {"w": torch.full((200_000,), float(step))}
            states.save(Path(sys.argv[1]), states.State(tensors, {"step": step, "best": {"step": step}}), best)
    """
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), tmp_path], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(0.1 + rng.random() * 0.3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found, notes = states.newest(tmp_path)
        assert notes == []
        step = found.facts["step"]
        assert torch.equal(found.tensors["model/w"], torch.full((200_000,), float(step)))
        best = states.read_tensors(tmp_path / states.best_name(found.facts["best"]["step"]))
        assert torch.equal(best.tensors["w"], torch.full((200_000,), float(step)))
