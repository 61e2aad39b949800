"""The page: what was measured, laid out by the template beside this file."""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Hashable
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import luce
from luce.plot import ConfusionDisplay, ReliabilityDisplay
from luce.plot._canvas import short
from luce.plot._models import classifier_of
from luce.report import figures, words
from luce.report.measures import Measures, measures_of
from luce.report.mistakes import mistakes_of
from luce.report.subject import Subject

WORST = 12  # confusions that are listed
MOST_CLASSES = 2000  # in the table of classes
BALANCED = 15  # classes whose share of the rows is drawn


def page(subject: Subject) -> str:
    """Measure a subject and return its page as HTML."""
    m = measures_of(subject)
    confusion = ConfusionDisplay(
        m.evaluation.confusion, np.array([short(c, 40) for c in subject.model.classes_])
    )
    pictures = figures.templates(subject, m)
    style, script = _own("style.css"), _own("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html: str = _template().render(
        title=f"{subject.name}: softmax classifier",
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=Markup(style),
        script=Markup(script),
        name=subject.name,
        task=words.task(subject),
        where=words.where(subject),
        headline=words.headline(m),
        verdict=words.verdict(subject, m),
        warnings=words.warnings(subject, m),
        tiles=_tiles(m),
        classes=_classes(m),
        n_classes=len(m.evaluation.classes),
        confusion=figures.confusion(confusion),
        worst=_worst(confusion),
        mistakes=mistakes_of(subject, m),
        n_wrong=int((~m.correct).sum()),
        calibration=words.calibration(m),
        reliability=figures.reliability(m),
        scores=figures.scores(m),
        templates=pictures,
        features=None if pictures else figures.features(subject, m),
        fit=words.fit(subject),
        convergence=figures.convergence(subject),
        path=figures.path(subject),
        columns=subject.columns,
        balance=_balance(m),
        facts=_facts(subject),
        command=str(subject.told.get("again", "")),
    )
    return html


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"short": short, "whole": words.whole}
    return environment.from_string(_own("page.html"))


def _tiles(m: Measures) -> list[tuple[str, str, str]]:
    """Return name, figure, and what the majority class would have, for the headline figures."""
    result = m.evaluation
    ece = ReliabilityDisplay(m.confidence, m.correct).ece
    return [
        ("Accuracy", words.percent(result.accuracy), words.percent(result.baseline_accuracy)),
        ("Log-loss", f"{result.log_loss:.3f}", f"{result.baseline_log_loss:.3f}"),
        ("Macro-F1", f"{result.macro_f1:.3f}", f"{result.baseline_macro_f1:.3f}"),
        ("Calibration error", words.percent(ece), ""),
    ]


def _classes(m: Measures) -> list[dict[str, Any]]:
    """Return a row for each class (of very many, the worst): measures, and what it is taken for."""
    result = m.evaluation
    wrong = result.confusion.copy()
    np.fill_diagonal(wrong, 0)
    rows = []
    for i in np.sort(np.argsort(result.f1, kind="stable")[:MOST_CLASSES]):
        j = int(wrong[i].argmax())
        rows.append(
            {
                "name": short(result.classes[i], 40),
                "precision": float(result.precision[i]),
                "recall": float(result.recall[i]),
                "f1": float(result.f1[i]),
                "rows": int(result.support[i]),
                "fitted": None if m.fitted is None else int(m.fitted[i]),
                "taken_for": short(result.classes[j], 40) if wrong[i, j] else "",
                "taken": int(wrong[i, j]),
            }
        )
    return rows


def _worst(confusion: ConfusionDisplay) -> list[dict[Hashable, Any]]:
    table = confusion.frame()
    return table[table["true"] != table["predicted"]].head(WORST).to_dict("records")


def _balance(m: Measures) -> dict[str, Any]:
    """Return the shares of the classes, the largest and, of many, the smallest."""
    counts = m.evaluation.support if m.fitted is None else m.fitted
    order = np.argsort(-counts, kind="stable")
    shown = order if len(order) <= BALANCED else order[:BALANCED]
    most = max(1, int(counts.max()))
    return {
        "of": "measured" if m.fitted is None else "fitted",
        "rows": int(counts.sum()),
        "classes": [
            (
                short(m.evaluation.classes[i]),
                int(counts[i]),
                counts[i] / max(1, counts.sum()),
                counts[i] / most,
            )
            for i in shown
        ],
        "left": len(order) - len(shown),
        "least": int(counts.min()),
        "ratio": most / max(1, int(counts.min())),
    }


def _facts(subject: Subject) -> list[tuple[str, str]]:
    """Return what one needs to know to get the same result again."""
    import sklearn

    told, classifier = subject.told, classifier_of(subject.model)
    model = told.get("model", {})
    facts = [
        ("Fitted", f"{model['rows']:,} of {told['data']['rows']:,} rows of {told['data']['name']}")
        if model
        else None,
        ("Fingerprint of the fitted data", str(told["data"]["fingerprint"])) if "data" in told else None,
        ("Fingerprint of the measured data", subject.data.fingerprint) if subject.data.fingerprint else None,
        ("Settings", _settings(classifier)),
        ("Seed", str(model["seed"])) if model else None,
        ("Effort", f"{model['passes']:,.0f} passes, {model['seconds']:,.2f} s") if model else None,
        ("Fitted with", ", ".join(f"{k} {v}" for k, v in subject.versions.items()))
        if subject.versions
        else None,
        (
            "Measured with",
            f"luce {luce.__version__}, scikit-learn {sklearn.__version__}, NumPy {np.__version__}, "
            f"Python {platform.python_version()}",
        ),
    ]
    return [fact for fact in facts if fact is not None]


def _settings(classifier: Any) -> str:
    names = ("C", "Cs", "l1_ratio", "class_weight", "solver", "tol", "max_iter")
    values = classifier.get_params(deep=False)
    return ", ".join(f"{name} = {values[name]}" for name in names if name in values)
