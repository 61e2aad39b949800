"""From labels to numbers: which classes there are, and what each sample of them weighs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from luce.errors import InputError
from luce.loss.inputs import Array, as_weights


def number(y: Array, weight: Array | None, class_weight: Any) -> tuple[Array, Array, Array | None]:
    """Return the classes, each sample's number among them, and the weights with class_weight in them."""
    classes = at_least_two(np.unique(y if weight is None else y[weight > 0]))
    labels = numbers_of(y, classes)
    if class_weight is not None:
        ones = np.ones(len(y)) if weight is None else weight
        totals = np.bincount(labels, ones, minlength=len(classes))
        weight = as_weights(ones * weights_of(class_weight, classes, totals)[labels], len(y))
    return classes, labels, weight


def at_least_two(classes: Array) -> Array:
    """Return the classes, or say that there are too few to tell apart."""
    if len(classes) < 2:
        only = repr(classes[0].item()) if len(classes) else "none"
        raise InputError(f"y has one class only ({only}): a classifier needs samples of at least 2 classes")
    return classes


def numbers_of(y: Array, classes: Array) -> Array:
    """Return where each label is among the sorted classes; 0 for the classes of samples without weight."""
    labels = np.searchsorted(classes, y)
    labels[labels == len(classes)] = 0
    return labels.astype(np.int64, copy=False)


def weights_of(class_weight: Any, classes: Array, totals: Array) -> Array:
    """Return the weight of each class; `totals` are the weights of all its samples together."""
    if isinstance(class_weight, str) and class_weight == "balanced":
        return np.asarray(totals.sum() / (len(classes) * totals))
    try:
        per_class = np.asarray(compute_class_weight(class_weight, classes=classes, y=classes), np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"class_weight = {class_weight!r}: {error}") from error
    if not (np.isfinite(per_class).all() and (per_class >= 0).all()):
        raise InputError(f"class_weight = {class_weight!r}: weights are finite numbers >= 0")
    return per_class
