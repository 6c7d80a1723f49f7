"""The catalogue of strategies: each is a word for a head on the features of a frozen backbone."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from regraft.errors import OptionError


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to put a backbone's knowledge to work.

    Attributes:
        name: the word.
        head: the head that is fitted, as `regraft.heads` knows it.
        what: one sentence for people.
        selection: how its settings are chosen, for the report.
        imports: what its fitting imports, so that the time is counted as import time.
    """

    name: str
    head: str
    what: str
    selection: str
    imports: tuple[str, ...] = ()


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
            "one hidden layer",
            f"When to stop was decided on a tenth of the training part, its temperature found {_BY_CV}.",
            ("sklearn.neural_network",),
        ),
    )
}
_ALIASES = {"mlp": "mlp-head", "linear": "linear-probe", "nb": "naive-bayes"}


def strategy(name: str) -> Strategy:
    """The strategy of that name.

    Raises:
        OptionError: no strategy has it; the message lists them all.
    """
    word = str(name).lower()
    found = STRATEGIES.get(_ALIASES.get(word, word))
    if found is None:
        close = difflib.get_close_matches(word, STRATEGIES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise OptionError(f"strategy {name!r} is unknown: use one of {', '.join(STRATEGIES)}.{hint}")
    return found
