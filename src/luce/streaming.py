"""A classifier from rows that are seen once: prepared, learned by one pass, measured on a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import logsumexp

from luce.data.columns import make_pipeline
from luce.data.dataset import Dataset, listed
from luce.data.labels import check_classes, codes_of
from luce.errors import DataFileError, InputError
from luce.estimator import SoftmaxClassifier
from luce.evaluation import Evaluation, measure
from luce.objective import InMemory, Objective
from luce.problem import Problem
from luce.solvers import LBFGS, minimize

FIRST = 10_000  # rows from which the columns' preparation and the classes are taken
KEPT = 10_000  # rows held out, at most
_KEPT_BYTES = 1 << 28  # of them, at most
_NORMAL = 1.645  # what a normal variable exceeds once in twenty times

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Excess:
    """How far above the least possible objective a classifier may be, told by rows that it has not seen.

    Attributes
    ----------
    rows : int
    objective : float
        Mean loss on these rows plus the penalty of the fit.
    proven : float
        Its distance to the least that any weights reach on these rows, at most: a proof.
    likely : float
        Its distance to the least that any weights reach on the whole stream, at most, with 95 % confidence.
    """

    rows: int
    objective: float
    proven: float
    likely: float


@dataclass(frozen=True)
class Learned:
    """What a stream gave.

    Attributes
    ----------
    pipeline : sklearn.pipeline.Pipeline
        Fitted.
    counts : ndarray of shape (C,)
        Rows that were learned from, by class.
    held_out : Evaluation or None
        On rows drawn from the whole stream and not learned from.
    excess : Excess or None
        None where no row was held out.
    interrupted : bool
        The stream was ended by KeyboardInterrupt.
    """

    pipeline: Any
    counts: Array
    held_out: Evaluation | None
    excess: Excess | None
    interrupted: bool


def learn(
    batches: Iterable[Dataset],
    classifier: SoftmaxClassifier,
    *,
    classes: Sequence[str] | None = None,
    text: Sequence[str] | None = None,
    test_size: float = 0.25,
    seed: int = 0,
    kept: int = KEPT,
) -> Learned:
    """Learn from each batch once, and measure on rows held out from all of them.

    How columns become numbers is decided by the first rows, as are the classes unless they are given. A share
    of the rows is held out, as long as there is room: then a sample of the whole stream is, in which each row
    has the same chance to be, and rows that have to leave it are learned from after all.

    Parameters
    ----------
    batches : iterable of Dataset
        Tables with labels. KeyboardInterrupt ends the stream: what was learned by then is kept.
    classifier : SoftmaxClassifier
        Its partial_fit is called.
    classes : sequence of str, optional
        All labels that will ever come, as they are written.
    text : sequence of str, optional
        Columns to treat as text.
    test_size : float
        Share of the rows that is held out, as far as there is room.
    seed : int
        Of what is held out.
    kept : int
        Most rows that are held out.

    Raises
    ------
    DataFileError
        A label is none of the classes; the message names its row.
    InputError
        The rows cannot be used.
    """
    first, rest = _first(iter(batches))
    known = _classes(first, classes)
    pipeline = make_pipeline(first.X, classifier, text=text)
    prepare, classifier = pipeline[:-1], pipeline[-1]
    prepare.fit(first.X, first.y)
    sample = _Sample(kept, test_size, seed)
    counts = np.zeros(len(known), dtype=np.int64)
    done = 0
    interrupted = False
    try:
        for batch in chain([first], rest):
            codes = _codes(batch, known, classes, done)
            done += len(batch)
            X, codes = sample.hold_out(prepare.transform(batch.X), codes)
            if len(codes):
                classifier.partial_fit(X, known[codes], classes=known)
                counts += np.bincount(codes, minlength=len(known))
    except KeyboardInterrupt:
        if not counts.any():
            raise
        interrupted = True
    if not counts.any():
        raise InputError(f"{first.name}: has no rows left to learn from; hold out fewer, or give more")
    if sample.X is None:
        return Learned(pipeline, counts, None, None, interrupted)
    log_proba = classifier.predict_log_proba(sample.X)
    held_out = measure(
        sample.codes,
        log_proba.argmax(axis=1),
        log_proba[np.arange(len(sample.codes)), sample.codes],
        known,
        counts / counts.sum(),
    )
    bound = excess(classifier, sample.X, sample.codes, int(counts.sum()))
    return Learned(pipeline, counts, held_out, bound, interrupted)


def excess(classifier: SoftmaxClassifier, X: Any, codes: Array, seen: int) -> Excess:
    """Bound how far above the optimum a classifier is, from rows that it has not seen.

    On a sample S that is independent of the weights, the mean objective is right on average, and its minimum
    over all weights is too low on average, since those weights suit S. So F_S(weights) - min F_S is, on
    average over samples, at least the distance from the optimum of what the sample is drawn from (Mak,
    Morton & Wood, 1999). With the standard error of that mean difference it is a bound with a confidence
    (Bayraksan & Morton, 2006), if rows are drawn independently. The minimum on S is certified.

    Parameters
    ----------
    classifier : SoftmaxClassifier
        Fitted, without an absolute penalty.
    X : array or sparse array (N, D)
    codes : array (N,)
        Indices into the classes.
    seen : int
        Rows learned from, which the penalty counts.
    """
    n = len(codes)
    data = InMemory(X, codes, len(classifier.classes_), n_threads=classifier.n_threads)
    problem = Problem(classifier.classes_, data, Objective(data, 0.0, fit_intercept=classifier.fit_intercept))
    objective = problem.objective(classifier.C * seen / n)
    theta = problem.theta(classifier.coef_.astype(np.float64), classifier.intercept_.astype(np.float64))
    value = objective.value(theta)
    differences = _losses(problem.base, theta, X, codes)
    least = 0.0
    if (
        classifier.fit_intercept
    ):  # the best intercept of a class without a row is -inf: as if it were not there
        present, codes = np.unique(codes, return_inverse=True)
        theta = theta[:, present]
        data = InMemory(X, codes, len(present), n_threads=classifier.n_threads)
        objective = Objective(data, objective.reg)
    if objective.shape[1] > 1:
        best = minimize(objective, LBFGS(), theta, tol=1e-3, max_iter=1000)
        least = max(0.0, best.value - best.gap)
        differences = differences - _losses(objective, best.theta, X, codes)
    error = float(differences.std(ddof=1)) / np.sqrt(n) if n > 1 else np.inf
    return Excess(n, value, value - least, value - least + _NORMAL * error)


def _losses(objective: Objective, theta: Array, X: Any, codes: Array) -> Array:
    """Return the loss of each row."""
    scores = np.asarray(X @ objective.weights(theta))
    if objective.fit_intercept:
        scores = scores + theta[-1]
    return np.asarray(logsumexp(scores, axis=1) - scores[np.arange(len(codes)), codes])


class _Sample:
    """Some of the rows that go by, drawn from all of them alike: those with the smallest random keys."""

    def __init__(self, room: int, share: float, seed: int) -> None:
        self.X: Any = None
        self.codes = np.empty(0, dtype=np.intp)
        self._keys = np.empty(0)
        self._room, self._share = room, share
        self._rng = np.random.default_rng(seed)

    def hold_out(self, X: Any, codes: Array) -> tuple[Any, Array]:
        """Take some of these rows; return the others, and those that had to leave for them."""
        keys = self._rng.random(len(codes))  # those below the share are candidates, the smaller the better
        bar = self._share if len(self._keys) < self._room else min(self._share, self._keys.max())
        taken = keys < bar
        if not taken.any():
            return X, codes
        if self.X is None:
            self._room = min(self._room, max(1, _KEPT_BYTES * len(codes) // _bytes(X)))
            self.X = X[:0]
        pool, pool_codes = _stack(self.X, X[taken]), np.append(self.codes, codes[taken])
        pool_keys = np.append(self._keys, keys[taken])
        order = np.argsort(pool_keys)
        stay, leave = order[: self._room], order[self._room :]
        self.X, self.codes, self._keys = pool[stay], pool_codes[stay], pool_keys[stay]
        return _stack(X[~taken], pool[leave]), np.append(codes[~taken], pool_codes[leave])


def _stack(above: Any, below: Any) -> Any:
    return sparse.vstack([above, below], "csr") if sparse.issparse(above) else np.vstack([above, below])


def _bytes(X: Any) -> int:
    return int(X.data.nbytes + X.indices.nbytes if sparse.issparse(X) else X.nbytes) + 1


def _first(batches: Iterator[Dataset]) -> tuple[Dataset, Iterator[Dataset]]:
    """Return the first rows, and the others."""
    import pandas as pd

    parts: list[Dataset] = []
    while sum(map(len, parts)) < FIRST and (part := next(batches, None)) is not None:
        parts.append(part)
    if not parts:
        raise InputError("the stream has no rows: a header and rows were expected")
    joined = replace(parts[0], X=pd.concat([p.X for p in parts]), y=np.concatenate([p.y for p in parts]))
    if len(joined) <= FIRST:
        return joined, batches
    more = joined.rows(np.arange(FIRST, len(joined)))
    return joined.rows(np.arange(FIRST)), chain([more], batches)


def _classes(first: Dataset, classes: Sequence[str] | None) -> Array:
    """Return the sorted classes, in the type of the labels."""
    found = np.unique(first.y)
    if classes is None:
        if len(found) < 2:
            raise DataFileError(
                f"{first.name}: the first {len(first):,} rows hold one class only ({found[0]}): shuffle the "
                "rows, since a stream in the order of its classes teaches little, or name all classes"
            )
        check_classes(first.y, first.name, first.layout.target)
        return found
    if len(set(classes)) < 2:
        raise InputError("classes has one class only: a classifier needs at least 2 classes")
    whole = first.y.dtype.kind in "iu"
    return np.unique([int(c) for c in classes]) if whole else np.unique(np.array(classes, dtype=object))


def _codes(batch: Dataset, known: Array, classes: Sequence[str] | None, done: int) -> Array:
    codes = codes_of(batch.y, known)
    for i in np.flatnonzero(codes < 0)[:1]:
        origin = "of the first rows" if classes is None else "that were named"
        label, names = str(batch.y[i]), [str(c) for c in known]
        raise DataFileError(
            f"{batch.name}: row {done + i + 1}: the label {label!r} is none of the classes {origin} "
            f"({listed(names)}): name all that will come, or mend the row"
        )
    return codes
