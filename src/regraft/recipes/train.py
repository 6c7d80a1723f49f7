"""`regraft train`: from images to a model one can trust, on frozen features or by training the network."""

from __future__ import annotations

import contextlib
import inspect
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from regraft.backbones.recognise import FileOptions
from regraft.data.decode import MAX_PIXELS
from regraft.data.quick_check import quick_check
from regraft.data.read import is_table
from regraft.data.splits import make_splits
from regraft.errors import DataError, OptionError
from regraft.features.frozen import check_options
from regraft.features.store import cache_folder, usable_cache
from regraft.features.table import VIEWS
from regraft.recipes.backbone import prepare_backbones, short_name
from regraft.recipes.catalogue import AUTO, STRATEGIES, Strategy
from regraft.recipes.catalogue import strategy as find_strategy
from regraft.recipes.change_data import names_pairs
from regraft.recipes.change_options import check_not_change
from regraft.recipes.config import merge, read_config
from regraft.recipes.frozen_run import chosen_strategy, frozen_run
from regraft.recipes.gather import (
    Gathered,
    Source,
    check_flags,
    check_numbers,
    check_rejected,
    gather,
    gather_file,
    read_and_hash,
    warn_of_leaks,
)
from regraft.recipes.guard_head import check_guarding, check_judges
from regraft.recipes.listen import Clock, Listener
from regraft.recipes.run import Run, choose_folder, command_line, run_name
from regraft.recipes.tasks import frozen_tasks_run
from regraft.recipes.tasks_data import gather_tasks, names_tasks
from regraft.recipes.training_options import TRAINING, check_training
from regraft.recipes.workplace import check_free, resumed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regraft.data.manifest import Manifest
    from regraft.evaluation.comparison import Leaderboard
    from regraft.features.frozen import Frozen
    from regraft.training.engine import Engine

_LISTENER = Listener()


def train(
    data: str | os.PathLike[str] | None = None,
    *,
    backbone: str = "efficientnet_lite0",
    strategy: str = "auto",
    run: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    config: str | os.PathLike[str] | None = None,
    views: str = "auto",
    precision: Literal["auto", "f32", "bf16"] = "auto",
    runtime: Literal["auto", "openvino", "torch"] = "auto",
    calibrate: Literal["auto", "none", "temperature", "isotonic"] = "auto",
    abstain_at: float | None = None,
    unfreeze_from: str | None = None,
    freeze: str | None = None,
    task_weights: Literal["equal", "uncertainty"] = "equal",
    epochs: int | None = None,
    budget: str | None = None,
    lr: float | Literal["auto"] = "auto",
    head: Literal["linear", "mlp", "conv"] = "linear",
    augment: str = "auto",
    class_weights: Literal["auto", "none", "balanced"] = "auto",
    ema: bool = False,
    mixup: float = 0.0,
    smoothing: float | None = None,
    batch: int | None = None,
    accumulate: int = 1,
    optimiser: Literal["adamw", "sgd"] = "adamw",
    schedule: str = "cosine",
    layer_decay: float | None = None,
    weight_decay: float | None = None,
    clip: float = 1.0,
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1", "loss"] = "accuracy",
    early_stop: int = 0,
    eval_every: int = 0,
    save_every: float = 30.0,
    keep: int = 2,
    tensorboard: bool = False,
    workers: int | None = None,
    devices: int | None = None,
    nodes: int = 1,
    force: bool = False,
    resume: str | os.PathLike[str] | None = None,
    part: str | None = None,
    trust: bool = False,
    allow_partial: float = 0.9,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int | None = None,
    task: Literal["auto", "classes", "change"] = "auto",
    model: str | None = None,
    init: str | None = None,
    loss: str | None = None,
    preset: str | None = None,
    features: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    label: str | list[str] | None = None,
    path_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    resplit: bool = False,
    max_rejected: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    listener: Listener = _LISTENER,
) -> Run:
    """Train a model on labelled images and leave a run: model, numbers, predictions and report.

    By default the backbone is frozen: each image goes through it once, ever; what is fitted is a head on its
    features. The strategies finetune, lp-ft, partial, gradual, lora and scratch train the network itself.

    Args:
        data: A folder with one folder of images a class (also within train, val, test), a table (CSV, TSV,
            Parquet), a meta list, or sample:textile; or a folder with A, B and label, pairs of two dates and masks of
            what changed. May be left out with --features, --config or --resume.
        backbone: Which pretrained network, as `regraft backbones` lists them; or file:FILE[@ARCHITECTURE], a checkpoint
            of your own; or run:RUN, the backbone of a run. a+b puts the features of several side by side.
        strategy: auto compares the strategies on frozen features within the training part and keeps the winner. On
            frozen features: linear-probe, lda, svm, svm-linear, svm-rbf, naive-bayes, nearest-mean, knn or mlp-head.
            Training the network: finetune, lp-ft, partial, gradual, lora or scratch.
        run: The folder to leave the run in; by default a new one below `runs`.
        overwrite: Replace the run folder if it exists.
        config: Read options from this YAML file; what is given beside it (in Python: what is not the default) wins.
            A trained run has its train.yaml.
        views: Frozen strategies: flip averages the features of each image and its mirror image. partial and gradual: on
            how many augmented views of each image the frozen part is run, once; fresh augments anew each epoch.
        precision: bf16 is faster on processors that have it, and gives other digits. auto is f32 for frozen features
            and for every number in the report, and bf16 in training where the processor has it.
        runtime: What runs a frozen backbone; auto takes CUDA where there is one, else OpenVINO.
        calibrate: How confidence is corrected on validation images (training images held out in turn where there is no
            test part): by one temperature, by a curve for each class, or not; auto corrects it where it is off.
        abstain_at: Say unsure below the confidence from which on this accuracy is reached, such as 0.95.
        unfreeze_from: The first stage that partial trains, as `regraft backbones NAME` lists them.
        freeze: Of several backbones that are trained together, which stay as they are: names separated by commas.
        task_weights: Of several tasks that train the network, how their losses are weighed: alike, or by learned
            uncertainty.
        epochs: Passes over the training images (less what does not fill a batch); by default as suits their number.
        budget: Train for about so long: 90s, 10m, 2h. Epochs follow from the measured speed.
        lr: Peak learning rate of the backbone; the head's and the earlier layers' follow from it.
        head: What follows the backbone: one linear layer, a hidden layer before it, or convolutions before the pooling.
        augment: none, light, default, heavy, or a YAML file of torchvision v2 transforms.
        class_weights: balanced weighs classes by their rarity; auto does so where the largest is over five times the
            smallest.
        ema: Keep a moving average of the weights, and judge and keep that.
        mixup: Mix pairs of images, with this alpha; 0 mixes nothing.
        smoothing: Share of each label that is spread over all classes; by default 0.1.
        batch: Images a step; by default as many as suit the data.
        accumulate: Compute each step in so many parts, for small memories.
        optimiser: AdamW, or SGD with momentum 0.9.
        schedule: cosine, linear, constant, or step:EPOCHS:FACTOR such as step:7:0.1; after a short warm-up.
        layer_decay: How much slower each part of the backbone learns than the one after it; 1 for all alike.
        weight_decay: Of weights; never of norms and biases.
        clip: Largest norm of the gradient; 0 for no limit.
        metric: What the best epoch is chosen by, on the validation images.
        early_stop: End after so many evaluations without improvement; 0 for never.
        eval_every: Evaluate every so many steps, besides each epoch's end.
        save_every: Seconds between states that --resume can go on from; 0 saves at each evaluation.
        keep: How many states to keep.
        tensorboard: Write logs for TensorBoard into the run.
        workers: Processes that load images; by default none without a GPU.
        devices: Processes on each machine, one a GPU; by default one, or as torchrun says.
        nodes: Machines.
        force: Keep the trained network although the linear probe did better on the validation images.
        resume: Go on with this run's interrupted training, exactly.
        part: Of a checkpoint file with several state dicts, which one (`regraft checkpoint inspect` lists them).
        trust: Unpickle a checkpoint file that asks for foreign classes, which runs its code.
        allow_partial: Smallest share of the backbone's parameters that a checkpoint file must have.
        mean: Channel means (0..1) that the network of a checkpoint file expects, where not those of its zoo.
        std: Channel standard deviations, likewise.
        size: Side of the input in pixels, where not that of the weights; of pairs the side of the tiles, else 256.
        task: change learns from pairs of two dates; auto recognises them by their folders A, B and label.
        model: Of pairs, what follows the backbone: bit, unet or linear, with options such as
            bit:token_len=4,decoder_depth=8.
        init: Of pairs, start from a published checkpoint of BIT: file:best_ckpt.pt@bit.
        loss: Of pairs: ce, focal, dice, or sums such as ce+dice.
        preset: Of pairs, official: the settings of the publication of BIT.
        features: Train on this feature file (.npz, .parquet) instead of running a backbone.
        root: Where the relative paths of a table or list start; its own folder by default.
        label: The table's column with the labels. Given several times, each column is a task of its own, told apart by
            one head each; COLUMN:regression is a number, COLUMN:multilabel a list of labels or several columns of 0/1
            (a,b,c:multilabel).
        path_column: The table's column with the paths.
        split_column: The table's column with train, val, test.
        group_column: The table's column with groups, such as patients, that must not straddle splits.
        resplit: Make new splits although the data has some.
        max_rejected: Share of unreadable images above which training stops.
        max_pixels: Images with more pixels are rejected before they are decoded.
        seed: Another seed gives other splits, folds, first weights and augmentations.
        listener: Who is told what happens.

    Returns:
        The run that was left.

    Raises:
        TrainingStopped: Ctrl-C or SIGTERM while the network was trained; everything is saved for `resume`.
        RegraftError: whatever is wrong with the data or the options, in a sentence; nothing is left behind, but for
            what `resume` needs.
    """
    options = {k: v for k, v in locals().items() if k != "listener"}
    if config is not None:
        given = {k: v for k, v in options.items() if v != inspect.signature(train).parameters[k].default}
        options = {**merge(train, given, read_config(Path(config), train)), "config": None}
    folder = None
    if options["resume"] is not None:
        options, folder = resumed(train, options)
    return train_resolved(options, folder, listener)


def train_resolved(
    options: dict[str, Any],
    resume: Path | None,
    listener: Listener,
    leaderboard: Leaderboard | None = None,
    command: str | None = None,
) -> Run:
    """Train with resolved options.

    Args:
        options: every option of `train`.
        resume: the folder of the training to go on with.
        listener: is told what happens.
        leaderboard: of the comparison that chose a strategy which trains the network.
        command: what the user said, where it was that comparison.
    """
    asked = SimpleNamespace(**options)
    plan = find_strategy(asked.strategy)
    if names_pairs(asked.data, asked.task):
        from regraft.recipes.change import train_change

        return train_change(train, options, plan, resume, listener)
    check_not_change(options, train)
    _check_there(asked.data)
    clock = Clock.start(listener)
    own = check(asked, options, plan)
    engine = _several(asked, plan)
    if engine is not None and engine.rank > 0:
        listener = Listener()  # the first process speaks for all
    several = names_tasks(asked.label, asked.data)
    if several:
        plan = _plan_for_tasks(asked, plan, listener)
    what = asked.data if asked.data is not None else asked.features
    name = run_name(what, short_name(asked.backbone) if asked.features is None else "features", plan.name)
    with _one_by_one(engine):
        target = Path(asked.run) if resume is not None else choose_folder(asked.run, name, overwrite=asked.overwrite)
        if plan.trains and resume is None:
            check_free(target, overwrite=asked.overwrite)
        cache = usable_cache(cache_folder())
        data = None
        if several:
            backbones, gathered, data = gather_tasks(asked, plan, own, cache, clock, listener)
        else:
            backbones, gathered = gather_parts(asked, plan, source_of(asked), own, cache, clock, listener)
            check_trainable(gathered.manifest)
    listener.say(f"splits: {gathered.manifest.split_note}")
    notes = (*warn_of_leaks(gathered.manifest, listener), *warn_of_names(gathered.manifest, listener))
    if plan.trains:
        from regraft.recipes.begun import Begun
        from regraft.recipes.fine_tune import fine_tune

        options["run"] = target
        begun = Begun(
            options, plan, gathered, backbones, cache, target, name, notes, resume, clock, listener, leaderboard,
            command,
        )  # fmt: skip
        if data is not None:
            from regraft.recipes.task_training import fine_tune_tasks

            return fine_tune_tasks(begun, data, engine)
        check_judges(gathered, asked.calibrate, asked.abstain_at)
        return fine_tune(begun, engine)
    facts = {"command": command_line(train, options), "options": options, "asked_strategy": asked.strategy}
    whole = asked, facts, name, target, clock, listener
    if data is not None:
        return frozen_tasks_run(gathered, data, backbones, plan, *whole, notes=notes)
    plan, board, said = chosen_strategy(gathered, backbones, plan, asked.seed, clock, listener)
    return frozen_run(gathered, backbones, plan, *whole, notes=(*notes, *said), leaderboard=board)


def _check_there(data: object) -> None:
    """Before the options: that there is nothing of this name is the first thing to say.

    Raises:
        DataError: there is nothing of this name.
        OptionError: it is no name.
    """
    if data is not None and not isinstance(data, str | os.PathLike):
        raise OptionError(f"data is {data!r}; expected a folder, a table or sample:textile")
    if data:
        is_table(os.fspath(data))


def _plan_for_tasks(asked: SimpleNamespace, plan: Strategy, listener: Listener) -> Strategy:
    """The strategy of every task; what is only for one task with classes is refused."""
    if asked.abstain_at is not None:
        raise OptionError("--abstain-at is for a single column of classes: leave it out, or name one such --label")
    if plan.trains and asked.calibrate not in {"auto", "none"}:
        raise OptionError(f"--calibrate {asked.calibrate} has no effect on tasks that train the network: leave it out")
    if plan != AUTO:
        return plan
    listener.say("strategy: linear-probe for every task; strategies are compared for a single column of classes only")
    return STRATEGIES["linear-probe"]


def warn_of_names(manifest: Manifest, listener: Listener) -> tuple[str, ...]:
    """Warn of what names and sizes alone say is wrong; `regraft check` looks at the images, too."""
    found = quick_check(manifest)
    for sentence in found:
        listener.warn(sentence)
    return found


def source_of(asked: SimpleNamespace) -> Source | None:
    """The data that was named, and how to read it."""
    if asked.data is None:
        return None
    columns = asked.path_column, asked.split_column, asked.group_column
    return Source(asked.data, asked.root, asked.label, *columns)


def check(asked: SimpleNamespace, options: dict[str, Any], plan: Strategy) -> FileOptions:
    """Refuse what cannot work before any work is done; returns how a file's backbone is to be taken."""
    check_options(asked.runtime, "f32" if asked.precision == "auto" else asked.precision, "none")
    own = FileOptions(asked.part, asked.trust, asked.allow_partial, mean=asked.mean, std=asked.std, size=asked.size)
    own.check()
    check_guarding(asked.calibrate, asked.abstain_at)
    check_flags(overwrite=asked.overwrite, resplit=asked.resplit, trust=asked.trust)
    check_numbers(seed=asked.seed, max_rejected=asked.max_rejected, max_pixels=asked.max_pixels)
    if asked.features is not None:
        if plan.trains:
            raise OptionError(f"strategy {plan.name} trains on images; it has none with --features. Name the images.")
        _refuse(
            options,
            ("backbone", "views", "precision", "runtime", "max_pixels", *_OF_FILES),
            "--features: that file's features are taken as they are",
        )
    if plan.trains:
        check_training(asked, plan)
    else:
        _refuse(options, TRAINING, f"--strategy {plan.name}, which trains no part of the network")
        if asked.views not in {"auto", *VIEWS}:
            raise OptionError(f"views {asked.views!r} is unknown: use {', '.join(VIEWS)}")
    if asked.data is None and asked.features is None:
        raise OptionError("nothing to train on: name a folder, a table or sample:textile, or give --features FILE")
    return own


_OF_FILES = ("part", "trust", "allow_partial", "mean", "std", "size")


def _refuse(options: dict[str, Any], names: tuple[str, ...], beside: str) -> None:
    """Saying something that has no effect would go unheard."""
    parameters = inspect.signature(train).parameters
    for name in names:
        if options[name] != parameters[name].default:
            raise OptionError(f"--{name.replace('_', '-')} has no effect with {beside}")


def _several(asked: SimpleNamespace, plan: Strategy) -> Engine | None:
    """The engine, where several processes are to train; one alone starts its engine when it needs it."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1 or (asked.devices or 1) * asked.nodes > 1
    if not several:
        return None
    if not plan.trains:
        raise OptionError(
            f"strategy {plan.name} runs in one process. Start it without torchrun, --devices and --nodes, or choose a"
            " strategy that trains the network."
        )
    from regraft.training.engine import start_engine

    return start_engine(asked.precision, devices=asked.devices, nodes=asked.nodes)


@contextlib.contextmanager
def _one_by_one(engine: Engine | None) -> Iterator[None]:
    """The first process reads and extracts; the others then find everything in the store."""
    if engine is None:
        yield
        return
    with engine.first_alone():
        yield


def gather_parts(
    asked: SimpleNamespace,
    plan: Strategy,
    source: Source | None,
    own: FileOptions,
    cache: Path,
    clock: Clock,
    listener: Listener,
) -> tuple[tuple[Frozen, ...], Gathered]:
    """The images with features of the frozen backbones, divided into splits."""
    if asked.features is not None:
        file = Path(asked.features)
        gathered = gather_file(file, source, clock, listener, max_rejected=asked.max_rejected)
        divided = make_splits(gathered.manifest, seed=asked.seed, resplit=asked.resplit)
        return (), replace(gathered, manifest=divided)
    assert source is not None
    manifest, lost = read_and_hash(source, clock, listener, labelled=True)
    check_rejected(lost, len(manifest) + len(lost), asked.max_rejected, Listener())
    # What cannot be split or learnt from is refused before the long part.
    divided = make_splits(manifest, seed=asked.seed, resplit=asked.resplit)
    check_trainable(divided)
    backbones = prepare_backbones(
        asked.backbone,
        cache,
        clock,
        listener,
        runtime=asked.runtime,
        precision="bf16" if asked.precision == "bf16" and not plan.trains else "f32",
        views="flip" if asked.views == "flip" else "none",
        options=own,
    )
    limits = {"max_pixels": asked.max_pixels, "max_rejected": asked.max_rejected}
    gathered = gather(manifest, lost, backbones, cache, clock, listener, **limits)
    if len(gathered.manifest) < len(manifest):  # some could not be decoded: divide what is left
        divided = make_splits(gathered.manifest, seed=asked.seed, resplit=asked.resplit)
    return backbones, replace(gathered, manifest=divided)


def check_trainable(manifest: Manifest) -> None:
    """Refuse what nothing can be learnt from or measured on.

    Raises:
        DataError: fewer than two classes to learn from, a class without training images, or nothing to measure on.
    """
    sizes = manifest.split("train").class_sizes()
    present = [name for name, size in sizes.items() if size]
    if len(present) < 2:  # noqa: PLR2004 - a choice needs two
        raise DataError(
            f"The training part of {manifest.source} has images of {len(present)} class ({', '.join(present)});"
            f" expected at least two classes."
        )
    # A class without any image (a class list may name more than the data has) is the head's to note.
    everywhere = manifest.class_sizes()
    unseen = [name for name, size in sizes.items() if not size and everywhere[name]]
    if unseen:
        raise DataError(
            f"No training image of {', '.join(map(repr, unseen))}, although other splits have some. Add images, or"
            f" leave the class out of the other splits."
        )
    if not any(item.split in {"val", "test"} for item in manifest.items):
        raise DataError(
            f"{manifest.source} has a training part only; there is nothing to measure the model on. Add val or test,"
            f" or let Regraft make them with --resplit."
        )
