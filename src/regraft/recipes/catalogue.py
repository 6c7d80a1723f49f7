"""The catalogue of strategies: each is a word for a head on frozen features, or for a way to train the network."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from regraft.errors import OptionError


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to put a backbone's knowledge to work.

    Attributes:
        name: the word.
        head: the head that is fitted on stored features, as `regraft.heads` knows it; for a strategy that trains, the
            one that it starts from or is compared with.
        what: one sentence for people.
        selection: how its settings are chosen, for the report.
        imports: what its fitting imports, so that the time is counted as import time.
        trains: whether parts of the network learn by back-propagation.
    """

    name: str
    head: str
    what: str
    selection: str
    imports: tuple[str, ...] = ()
    trains: bool = False


def _trained(name: str, what: str) -> Strategy:
    selection = "The best epoch was chosen on the validation images."
    return Strategy(name, "linear-probe", what, selection, ("scipy.optimize",), trains=True)


_BY_CV = "by cross-validation within the training part; no other image was looked at"
_SVM = ("sklearn.svm",)
STRATEGIES = {
    s.name: s
    for s in (
        Strategy(
            "linear-probe",
            "linear-probe",
            "multinomial logistic regression",
            f"The strength was chosen {_BY_CV}.",
            ("scipy.optimize",),
        ),
        Strategy("svm", "svm", "support vector machine, linear or RBF", f"Kernel and cost were chosen {_BY_CV}.", _SVM),
        Strategy("svm-linear", "svm-linear", "linear support vector machine", f"The cost was chosen {_BY_CV}.", _SVM),
        Strategy(
            "svm-rbf",
            "svm-rbf",
            "support vector machine with RBF kernel",
            f"Width and cost were chosen {_BY_CV}.",
            _SVM,
        ),
        Strategy(
            "naive-bayes", "naive-bayes", "Gaussian naive Bayes", f"Smoothing and temperature were chosen {_BY_CV}."
        ),
        Strategy("knn", "knn", "nearest neighbours by cosine", f"The number of neighbours was chosen {_BY_CV}."),
        Strategy(
            "mlp-head",
            "mlp",
            "one hidden layer, from the nearest class mean on",
            f"The number of steps was chosen {_BY_CV}.",
        ),
        Strategy(
            "lda",
            "lda",
            "linear discriminant analysis with a shrunk covariance",
            f"The shrinkage was chosen {_BY_CV}.",
            ("scipy.linalg",),
        ),
        Strategy("nearest-mean", "nearest-mean", "nearest class mean", f"Its temperature was found {_BY_CV}."),
        _trained("finetune", "a new head, and the whole network trained"),
        _trained("lp-ft", "the linear probe becomes the head, then everything is trained gently"),
        _trained("partial", "frozen up to a stage, the rest trained"),
        _trained("gradual", "stages thawed one after another"),
        _trained("lora", "low-rank adapters trained and merged, the trunk frozen"),
        _trained("scratch", "the same network without pretrained weights, as a control"),
    )
}
AUTO = Strategy(
    "auto",
    "linear-probe",
    "compares the strategies on frozen features and keeps the winner",
    f"The strategy was chosen {_BY_CV}.",
)
_ALIASES = {
    "mlp": "mlp-head",
    "linear": "linear-probe",
    "nb": "naive-bayes",
    "fine-tune": "finetune",
    "lpft": "lp-ft",
    "ncm": "nearest-mean",
}


def strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        OptionError: no strategy has it; the message lists them all.
    """
    word = str(name).lower()
    if word == AUTO.name:
        return AUTO
    found = STRATEGIES.get(_ALIASES.get(word, word))
    if found is None:
        close = difflib.get_close_matches(word, STRATEGIES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise OptionError(f"strategy {name!r} is unknown: use auto, or one of {', '.join(STRATEGIES)}.{hint}")
    return found
