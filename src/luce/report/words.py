"""What the figures mean, in plain words."""

from __future__ import annotations

import numpy as np

from luce.plot._canvas import short
from luce.plot._models import classifier_of
from luce.report.measures import Measures
from luce.report.subject import Subject


def task(subject: Subject) -> str:
    """Say in one line what the model does."""
    layout, classes = subject.data.layout, subject.model.classes_
    thing = "an image" if layout.kind == "images" else "a row"
    target = subject.told.get("data", {}).get("target")
    if len(classes) <= 4:
        names = [f"“{short(c)}”" for c in classes]
        what = f"Says whether {thing} is {', '.join(names[:-1])} or {names[-1]}"
    else:
        what = f"Tells {len(classes):,} classes{f' of “{short(target)}”' if target else ''} apart"
    if layout.kind == "images" and layout.image_shape:
        height, width, *channels = layout.image_shape
        colour = "colour" if channels else "grey"
        return f"{what}, from {colour} images of {width} × {height} pixels."
    n, unit = layout.n_features, "feature"
    if layout.kind == "table":
        n, unit = sum(c["kind"] != "dropped" for c in subject.columns), "column"
    return f"{what}, from {n:,} {_plural(n, unit)}."


def headline(m: Measures) -> str:
    """Say how good the model is, against always giving the most frequent answer."""
    low, _ = m.interval
    result = m.evaluation
    if low <= result.baseline_accuracy:
        return "Not shown to be better than one answer for all."
    errors = (1 - result.accuracy) / max(1e-12, 1 - result.baseline_accuracy)
    for limit, words in (
        (0.0, "No mistake on these rows."),
        (0.1, "Nearly always right."),
        (0.25, "Right most of the time."),
        (0.5, "Often right, but not to be relied on."),
        (0.8, "Better than guessing, with many mistakes."),
    ):
        if errors <= limit:
            return words
    return "Little better than one answer for all."


def verdict(subject: Subject, m: Measures) -> list[str]:
    """Say what the figures mean, a sentence or two each."""
    result = m.evaluation
    low, high = m.interval
    right = int(m.correct.sum())
    majority = short(result.classes[m.majority])
    said = [
        f"It is right on {right:,} of {result.rows:,} rows: {percent(result.accuracy)}, and in the long run "
        f"between {percent(low)} and {percent(high)} if new rows are like these. "
        f"Always answering “{majority}” would be right on {percent(result.baseline_accuracy)}."
    ]
    said.append(calibration(m))
    confusion = result.confusion.copy()
    np.fill_diagonal(confusion, 0)
    if confusion.any():
        i, j = np.unravel_index(confusion.argmax(), confusion.shape)
        n = int(confusion[i, j])
        said.append(
            f"The most frequent mistake is to take “{short(result.classes[i])}” for "
            f"“{short(result.classes[j])}”: {n:,} of {int(confusion.sum()):,} mistakes."
        )
    return said


def calibration(m: Measures) -> str:
    """Say whether the probabilities can be believed, beyond what chance explains."""
    n = len(m.confidence)
    sure, right = float(m.confidence.mean()), float(m.correct.mean())
    chance = 2 * np.sqrt(np.mean(m.confidence * (1 - m.confidence)) / n)
    figures = (
        f"on average it gives its answer a probability of {percent(sure)}, and {percent(right)} are right"
    )
    if sure - right > max(chance, 0.01):
        return f"It is too sure of itself: {figures}."
    if right - sure > max(chance, 0.01):
        return f"It is more often right than it claims: {figures}."
    low, high = m.interval
    if high - low > 0.2:
        return f"{n:,} rows are too few to tell whether its probabilities can be believed: {figures}."
    return f"Its probabilities can be taken at their word: {figures}."


def fit(subject: Subject) -> str:
    """Say how near the fit is to its optimum; "" where that is not known."""
    classifier = classifier_of(subject.model)
    loss, gap = getattr(classifier, "loss_", None), getattr(classifier, "gap_", np.inf)
    if loss is None or not np.isfinite(gap):
        return "How near the weights are to the optimum was not proven."
    if gap == 0:
        proven = f"The objective is {loss:.6g}, and no weights bring it lower"
    else:
        share = f" ({_scientific(gap / loss)} of it)" if loss > 0 else ""
        proven = f"The objective is {loss:.6g}, and no weights bring it lower by more than "
        proven += f"{_scientific(gap)}{share}"
    proven += ": that is proven, not guessed from slow progress."
    return proven


def warnings(subject: Subject, m: Measures) -> list[str]:
    """Say what the reader must know before believing the figures."""
    said = []
    result = m.evaluation
    if subject.unseen is False:
        said.append(
            "These are rows that the model was fitted on, all or most of them. New rows will be classified "
            "worse than the figures say: measure on rows that were held out."
        )
    if subject.unseen is None:
        said.append(
            "Whether the model was fitted on these rows is not known here; if it was, new rows will be "
            "classified worse than the figures say."
        )
    if result.unknown:
        said.append(
            f"{result.unknown:,} {_plural(result.unknown, 'row')} with a label that the model does not know: "
            "wrong in the accuracy, and left out of the rest."
        )
    classifier = classifier_of(subject.model)
    if getattr(classifier, "status_", "") in ("max_iter", "stalled", "stopped"):
        said.append(
            f"The fit ended above its tolerance ({classifier.status_}): more iterations may do better."
        )
    absent = int((result.support == 0).sum())
    if absent:
        said.append(
            f"{absent:,} of {len(result.classes):,} classes {'has' if absent == 1 else 'have'} no rows here: "
            "how well they are recognised is not known."
        )
    return said


def where(subject: Subject) -> str:
    """Say which rows were measured."""
    data = subject.data
    rows = f"{len(data):,} {_plural(len(data), 'row')} of {data.name}"
    return f"{rows} ({subject.how})" if subject.how else rows


def _plural(n: int, word: str) -> str:
    return word if n == 1 else f"{word}s"


def percent(share: float) -> str:
    """Say a share with as many digits as it deserves near 0 and 100%.

    Examples
    --------
    >>> percent(0.5), percent(0.9712), percent(0.9996), percent(1.0)
    ('50%', '97.1%', '99.96%', '100%')
    """
    if share in (0, 0.5, 1):
        return f"{share:.0%}"
    return f"{share:.2%}" if min(share, 1 - share) < 0.001 else f"{share:.1%}"


def whole(share: float) -> str:
    """Say a share in whole percent, without calling what is not certain so.

    Examples
    --------
    >>> whole(0.42), whole(0.998), whole(0.001)
    ('42%', '>99%', '<1%')
    """
    return ">99%" if 0.99 < share < 1 else "<1%" if 0 < share < 0.01 else f"{share:.0%}"


def _scientific(value: float) -> str:
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}·10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
