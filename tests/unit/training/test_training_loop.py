"""The loop on a toy: it learns, stops, resumes exactly, and fails as it says."""

import contextlib
import json
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from regraft.errors import CannotWrite, TrainingFailed, TrainingStopped
from regraft.training import record
from regraft.training import state as states
from regraft.training.engine import start_engine
from regraft.training.loop import fit
from regraft.training.objectives import classification
from regraft.training.parameters import Rates, groups
from regraft.training.plan import Phase, Place, Planned, Settings
from regraft.training.schedules import Schedule

N, WIDTH, CLASSES = 37, 6, 3
SETTINGS = Settings(batch=8, schedule=Schedule("cosine"), warm_up=2, seed=3)


@pytest.fixture(autouse=True)
def _one(one_thread):
    pass


@pytest.fixture(scope="module")
def engine():
    return start_engine("f32")


class Toy(nn.Module):
    """Noisy points around one centre a class; noise differs by epoch."""

    def __init__(self, noise, n=N):
        generator = torch.Generator().manual_seed(5)
        self.targets = np.arange(n, dtype=np.int64) % CLASSES
        self.points = torch.randn(CLASSES, WIDTH, generator=generator)[self.targets] * 1.5
        self.points += torch.randn(n, WIDTH, generator=generator)
        self.noise = noise

    def __len__(self):
        return len(self.points)

    def load(self, row, epoch):
        if epoch < 0:
            return self.points[row]
        generator = torch.Generator().manual_seed(1000 * epoch + row)
        return self.points[row] + self.noise * torch.randn(WIDTH, generator=generator)


class Net(nn.Module):
    def __init__(self, dropout=0.3, norm=True):
        super().__init__()
        middle = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.backbone = nn.Sequential(nn.Linear(WIDTH, 8), middle, nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.head(self.backbone(x))


def make(dropout=0.3, norm=True):
    torch.manual_seed(11)
    return Net(dropout, norm)


def phases(model, epochs=(4,), noise=0.2):
    """The first phase trains the head only, where there are two."""

    def opener(head_only):
        @contextlib.contextmanager
        def open_():
            for parameter in model.backbone.parameters():
                parameter.requires_grad_(not head_only)
            own = groups(model.named_parameters(), Rates(0.01, 0.05, 1.0, 0.01), lambda _: 0)
            yield Phase(own, Toy(noise), Toy(0, 20), lambda x: x.float())

        return open_

    return [Planned(f"p{n}", e, opener(len(epochs) > 1 and n == 0)) for n, e in enumerate(epochs)]


def place(folder, said=None):
    folder.mkdir(exist_ok=True)
    tell = (lambda _: None) if said is None else said.append
    return Place(folder, {"manifest_sha256": "x"}, lambda r: f"image{r}.jpg", tell, lambda *_: None, resume="RESUME")


def train(model, engine, folder, *, settings=SETTINGS, epochs=(4,), objective=None, resume=None, said=None):
    usual = classification(smoothing=0.1, mixup=0.2)
    todo = phases(model, epochs)
    return fit(model, objective or usual, todo, settings, engine, place(folder, said), images=N, resume=resume)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def rows(history):
    return [{k: v for k, v in row.items() if k not in {"seconds", "images_per_second"}} for row in history]


def stopping(at, number=signal.SIGTERM):
    """The usual objective, which asks for an end during the step number `at`."""
    usual, count = classification(smoothing=0.1, mixup=0.2), [0]

    def objective(model, batch):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), number)
        return usual(model, batch)

    return objective


def test_it_learns_and_keeps_the_best(tmp_path, engine):
    model = make(0.0)
    said = []
    got = train(model, engine, tmp_path, epochs=(12,), said=said)
    history = got.progress.history
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    values = [row["val_accuracy"] for row in history]
    assert got.best["val_accuracy"] == max(values)
    assert got.best["step"] == history[values.index(max(values))]["step"], "ties go to the earlier"
    assert [row["step"] for row in history] == [4 * n for n in range(1, 13)]
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == history
    assert len(said) == 12
    assert "images/s" in said[0]
    judged = make(0.0)
    judged.load_state_dict(got.weights)
    judged.eval()
    val = Toy(0, 20)
    with torch.inference_mode():
        right = judged(val.points).argmax(1).numpy() == val.targets
    assert right.mean() == got.best["val_accuracy"]


@pytest.mark.parametrize("epochs", [(4,), (2, 3)])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, engine, epochs, average, optimiser):
    settings = Settings(
        batch=8, schedule=Schedule("cosine"), warm_up=2, seed=3, average=average, optimiser=optimiser, eval_every=3
    )
    straight = make()
    whole = train(straight, engine, tmp_path / "whole", settings=settings, epochs=epochs)
    resume = None
    for at in (2, 5, 1, 6):
        torch.manual_seed(12345)  # whatever the process did before
        broken = make()
        with pytest.raises(TrainingStopped, match="RESUME") as caught:
            train(
                broken,
                engine,
                tmp_path / "parts",
                settings=settings,
                epochs=epochs,
                objective=stopping(at),
                resume=resume,
            )
        assert caught.value.signal == signal.SIGTERM
        resume, _ = states.newest(tmp_path / "parts")
    model = make()
    parts = train(model, engine, tmp_path / "parts", settings=settings, epochs=epochs, resume=resume)
    assert equal(straight.state_dict(), model.state_dict())
    assert equal(whole.weights, parts.weights)
    assert rows(whole.progress.history) == rows(parts.progress.history)
    lines = (tmp_path / "parts" / "history.jsonl").read_text().splitlines()
    assert rows(map(json.loads, lines)) == rows(parts.progress.history)


def test_a_finished_training_resumes_to_the_same_result(tmp_path, engine):
    first = train(make(), engine, tmp_path)
    state, _ = states.newest(tmp_path)
    again = train(make(), engine, tmp_path, resume=state)
    assert equal(first.weights, again.weights)
    assert again.best == first.best


def test_weights_that_are_good_already_are_judged_before_the_first_step(tmp_path, engine):
    settings = Settings(batch=8, schedule=Schedule("constant"), seed=3, judge_start=True)
    got = train(make(0.0), engine, tmp_path, settings=settings, epochs=(2,))
    first = got.progress.history[0]
    assert (first["epoch"], first["step"], first["train_loss"], first["best"]) == (0, 0, None, True)
    assert len(got.progress.history) == 3
    untrained = make(0.0).eval()
    with torch.inference_mode():
        logits = untrained(Toy(0, 20).points)
    targets = torch.from_numpy(Toy(0, 20).targets)
    assert first["val_loss"] == pytest.approx(nn.functional.cross_entropy(logits, targets).item(), rel=1e-5)


def test_what_is_frozen_does_not_change_in_its_phase(tmp_path, engine):
    model = make()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items() if "running" not in k and "num" not in k}
    todo = phases(model, (2, 1))[:1]
    fit(model, classification(), todo, SETTINGS, engine, place(tmp_path), images=N)
    assert equal(before, {k: model.backbone.state_dict()[k] for k in before})
    names = {name.rpartition("/")[0] for name in states.newest(tmp_path)[0].part("optimiser")}
    assert names == {"head.weight", "head.bias"}, "frozen parameters are not in the optimiser"


@pytest.mark.parametrize("when", [1, 5, 8])
def test_a_loss_that_is_no_number_stops_within_the_step_and_names_the_images(tmp_path, engine, when):
    model, usual, seen = make(), classification(), []
    before = []

    def objective(network, batch):
        seen.append(batch.rows.tolist())
        loss, logs = usual(network, batch)
        if len(seen) == when:
            before.append({k: v.clone() for k, v in model.named_parameters()})
            loss = loss * float("nan")
        return loss, logs

    with pytest.raises(TrainingFailed, match=f"step {when} .*--lr"):
        train(model, engine, tmp_path, objective=objective)
    assert len(seen) == when
    listed = (tmp_path / "not-finite-0.txt").read_text().splitlines()
    assert listed == [f"image{row}.jpg" for row in seen[-1]]
    assert equal(before[0], dict(model.named_parameters())), "the step was not taken"


def test_a_gradient_that_is_no_number_stops_too(tmp_path, engine):
    usual = classification()

    def objective(network, batch):
        loss, logs = usual(network, batch)
        # d sqrt(x) / dx is infinite at 0, where the value is finite
        return loss + torch.sqrt(network.head.weight.sum() * 0.0), logs

    with pytest.raises(TrainingFailed, match="gradient"):
        train(make(), engine, tmp_path, objective=objective)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_gives_the_same_gradients(tmp_path, engine, error):
    usual, largest, said = classification(), [], []

    def objective(network, batch):
        largest.append(len(batch))
        if len(batch) > 2:
            raise error
        return usual(network, batch)

    expected, model = make(0.0, norm=False), make(0.0, norm=False)
    train(expected, engine, tmp_path / "a", objective=usual)
    got = train(model, engine, tmp_path / "b", objective=objective, said=said)
    for name, value in expected.state_dict().items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-5), name
    assert got.progress.accumulate == 4
    assert largest[:3] == [8, 4, 2]
    assert max(largest[3:]) == 2, "it is remembered"
    assert sum("out of memory" in line for line in said) == 2
    state, _ = states.newest(tmp_path / "b")
    assert state.facts["accumulate"] == 4, "and a resumed run remembers it"


def test_other_errors_are_not_taken_for_missing_memory(tmp_path, engine):
    def objective(network, batch):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(make(), engine, tmp_path, objective=objective)


def test_too_little_memory_for_one_image_is_told(tmp_path, engine):
    def objective(network, batch):
        raise torch.OutOfMemoryError("CUDA")

    with pytest.raises(TrainingFailed, match="single image"):
        train(make(), engine, tmp_path, objective=objective)


def test_accumulation_gives_the_gradients_of_the_whole_batch(tmp_path, engine):
    one, other = make(0.0, norm=False), make(0.0, norm=False)
    train(one, engine, tmp_path / "a", objective=classification(smoothing=0.1))
    parts = Settings(batch=8, schedule=Schedule("cosine"), warm_up=2, seed=3, accumulate=3)
    train(other, engine, tmp_path / "b", settings=parts, objective=classification(smoothing=0.1))
    for name, value in one.state_dict().items():
        assert torch.allclose(value, other.state_dict()[name], atol=1e-5), name


def test_patience_ends_and_so_does_the_budget(tmp_path, engine):
    impatient = Settings(batch=8, schedule=Schedule("constant"), seed=3, patience=2)
    model = make(0.0)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    got = train(model, engine, tmp_path / "a", settings=impatient, epochs=(50,))
    assert "no better accuracy for 2" in got.progress.finished
    waited = got.progress.history[-1]["epoch"] - got.best["epoch"]
    assert waited == 2
    short = Settings(batch=8, schedule=Schedule("constant"), seed=3, budget=1e-6)
    got = train(make(), engine, tmp_path / "b", settings=short, epochs=(50,))
    assert "budget" in got.progress.finished
    assert len(got.progress.history) == 1


def test_a_state_that_cannot_be_written_ends_the_training_and_leaves_the_last(tmp_path, engine, monkeypatch):
    real, count = states.write_tensors, [0]

    def failing(target, tensors, facts):
        count[0] += 1
        if count[0] > 4:
            raise CannotWrite(f"{target} cannot be written: No space left on device. Nothing was left there.")
        real(target, tensors, facts)

    monkeypatch.setattr(states, "write_tensors", failing)
    with pytest.raises(CannotWrite, match=r"No space left.*RESUME"):
        train(make(), engine, tmp_path, epochs=(9,))
    monkeypatch.undo()
    state, notes = states.newest(tmp_path)
    assert notes == []
    resumed = train(make(), engine, tmp_path, epochs=(9,), resume=state)
    whole = train(make(), engine, tmp_path / "whole", epochs=(9,))
    assert equal(whole.weights, resumed.weights)


def test_another_number_of_threads_is_told(tmp_path, engine):
    said = []
    train(make(), engine, tmp_path)
    state, _ = states.newest(tmp_path)
    state.facts["threads"] = 64
    train(make(), engine, tmp_path, resume=state, said=said)
    assert any("64 threads" in line for line in said)


def test_signals_are_as_before_afterwards(tmp_path, engine):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStopped):
        train(make(), engine, tmp_path, objective=stopping(3, signal.SIGINT))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_times_are_told_for_people():
    assert [record.in_words(s) for s in (5, 65, 3661)] == ["5 s", "1 min 5 s", "1 h 1 min"]
