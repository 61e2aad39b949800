"""What a picture of a model needs to know of it: its weights, and names for what they weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.preprocessing import OneHotEncoder

Array = np.ndarray[Any, Any]


def classifier_of(model: Any) -> Any:
    """Return the classifier that ends a pipeline, or the model itself."""
    return model.steps[-1][1] if hasattr(model, "steps") else model


def prepared(model: Any, X: Any) -> Any:
    """Return rows as the classifier that ends a pipeline sees them."""
    return model[:-1].transform(X) if hasattr(model, "steps") and len(model.steps) > 1 else X


def weights_of(model: Any) -> tuple[Array, Array]:
    """Return classes (n,) and their weights (n, D); of two classes the second alone, against the first."""
    classifier = classifier_of(model)
    coef = np.asarray(classifier.coef_, dtype=np.float64)
    return np.asarray(classifier.classes_)[-len(coef) :], coef


def feature_names(model: Any) -> Array:
    """Return a readable name for each of the features (D,) that a model's classifier weighs.

    Columns of a table keep their name, categories are written ``colour = red``; words are as they are, in
    quotes beside other columns, and after their column's name where several columns hold text.
    """
    n_features = np.asarray(classifier_of(model).coef_).shape[1]
    before = model[:-1] if hasattr(model, "steps") and len(model.steps) > 1 else None
    if before is not None and hasattr(before[-1], "transformers_"):
        return _names_of_columns(before[-1])
    if before is not None and hasattr(before, "get_feature_names_out"):
        return np.asarray(before.get_feature_names_out(), dtype=object)
    names = getattr(classifier_of(model), "feature_names_in_", None)
    return np.array([f"feature {i}" for i in range(n_features)] if names is None else names, dtype=object)


def _names_of_columns(encoder: Any) -> Array:
    names: list[Array] = []
    texts = sum(isinstance(columns, str) for _, _, columns in encoder.transformers_)
    for name, step, columns in encoder.transformers_:
        place = encoder.output_indices_[name]
        if place.stop > place.start:
            told = _names_of_step(step, columns, place.stop - place.start)
            if isinstance(columns, str) and len(encoder.transformers_) > 1:
                told = [f"“{word}”" if texts == 1 else f"{columns}: “{word}”" for word in told]
            names.append(np.asarray(told, dtype=object))
    return np.concatenate(names)


def _names_of_step(step: Any, columns: Any, width: int) -> Any:
    if isinstance(columns, str):  # a text
        if not hasattr(step, "get_feature_names_out") or hasattr(step, "steps"):
            return [f"hashed words {i}" for i in range(width)]
        return step.get_feature_names_out()
    if isinstance(step, OneHotEncoder):
        return _categories(step, list(columns))
    told = step.get_feature_names_out(list(columns))
    return [
        f"{str(n).removeprefix(_MISSING)} is missing"
        if str(n).startswith(_MISSING) and n not in columns
        else n
        for n in told
    ]


_MISSING = "missingindicator_"


def _categories(step: OneHotEncoder, columns: list[str]) -> list[str]:
    names = []
    for column, categories, rare in zip(columns, step.categories_, step.infrequent_categories_, strict=True):
        gone = set() if rare is None else set(map(str, rare))
        names += [
            f"{column} is missing" if category is None or category != category else f"{column} = {category}"
            for category in categories
            if str(category) not in gone
        ]
        names += [f"{column} = another"] if gone else []
    return names
