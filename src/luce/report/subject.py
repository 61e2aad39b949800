"""What a report is about: a model, the rows it is measured on, and what is known of both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from scipy import sparse

from luce.data.dataset import Dataset, Layout
from luce.errors import InputError
from luce.evaluation import split

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """A model and the rows to measure it on.

    Attributes
    ----------
    model : fitted classifier or pipeline
    data : Dataset
        With labels.
    unseen : bool or None
        Whether the rows are none of those the model was fitted on; None where it is not known.
    how : str
        How the rows were chosen, in words; "" where they are simply the data.
    rows : ndarray of shape (N,) or None
        The place of each row in the data that the user named; None where they are all of it.
    told : dict
        The metadata of a model file that `luce fit` wrote, or nothing.
    versions : dict of str to str
        The versions that the model was fitted with, where they are known.
    along_C : SoftmaxPath, SoftmaxClassifierCV or None
    """

    model: Any
    data: Dataset
    unseen: bool | None = None
    how: str = ""
    rows: Array | None = None
    told: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    along_C: Any = None

    @property
    def name(self) -> str:
        """What the data are called: the last part of their path."""
        source = str(self.told.get("data", {}).get("name", self.data.name))
        return PurePath(source).name or source


def subject_of(model: Any, data: Dataset, header: dict[str, Any]) -> Subject:
    """Return what to report of a model file and the data that the user named.

    Of the data that the model was fitted on, the rows that were held out are measured.

    Parameters
    ----------
    model : Pipeline
    data : Dataset
        Read by the model's layout.
    header : dict
        From :func:`luce.model_file.read_metadata`.
    """
    told = header.get("metadata", {})
    versions: dict[str, str] = {
        name: str(header[name]) for name in ("luce", "scikit-learn") if name in header
    }
    subject = Subject(model, data, told=told, versions=versions)
    trained = told.get("data", {}).get("fingerprint") == data.fingerprint
    held_out = told.get("held_out") or {}
    if data.held_out is not None:
        return replace(
            subject, data=data.held_out, unseen=True, how="the test part that the data bring along"
        )
    if not trained:
        return replace(subject, unseen=True, how="not the data that the model was fitted on")
    if held_out.get("split") and "test_size" in held_out:
        _, rows = split(data.y, held_out["test_size"], told["model"]["seed"])
        if len(rows) == held_out["rows"]:
            return replace(
                subject, data=data.rows(rows), unseen=True, rows=rows, how=f"held out: {held_out['how']}"
            )
    return replace(subject, unseen=False, how="the very rows that the model was fitted on")


def as_dataset(X: Any, y: Any, name: str, image_shape: tuple[int, ...] | None) -> Dataset:
    """Return features and labels as a dataset.

    Raises
    ------
    InputError
        X and y have different lengths, there are no rows, or they are no images of that shape.
    """
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if not (hasattr(X, "iloc") or sparse.issparse(X)):
        X = X.to_pandas() if hasattr(X, "to_pandas") else np.asarray(X)
    if y.ndim != 1 or len(y) != X.shape[0] or not len(y):
        raise InputError(f"X has {X.shape[0]} rows and y has shape {y.shape}; give a label for each row")
    n_features = int(np.prod(X.shape[1:]))
    if hasattr(X, "iloc"):
        layout = Layout("table", n_features, tuple(map(str, X.columns)))
    elif sparse.issparse(X):
        X, layout = X.tocsr(), Layout("sparse", n_features)
    elif image_shape is not None or X.ndim > 2:
        shape = tuple(X.shape[1:]) if image_shape is None else tuple(image_shape)
        if int(np.prod(shape)) != n_features:
            raise InputError(f"rows of {n_features} features are no images of shape {shape}")
        layout = Layout("images", n_features, image_shape=shape)
    else:
        layout = Layout("matrix", n_features)
    return Dataset(X, y, layout, name, "")
