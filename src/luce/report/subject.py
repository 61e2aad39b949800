"""What a report is about: a model, the rows it is measured on, and what is known of both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from scipy import sparse

from luce.data.columns import describe
from luce.data.dataset import Dataset, Layout
from luce.errors import InputError, ModelFileError
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

    @property
    def columns(self) -> list[dict[str, Any]]:
        """What is done to each column: name, kind, done, and missing cells of the fit where known."""
        steps = getattr(self.model, "steps", None)
        prepares = steps is not None and hasattr(steps[0][1], "dropped")
        layout = self.data.layout
        if "columns" in self.told:
            described = self.told["columns"]
        elif prepares:
            described = [dict(zip(("name", "kind", "done"), d, strict=True)) for d in describe(self.model)]
        elif layout.kind == "table":
            types = zip(layout.features, self.data.X.dtypes, strict=True)
            described = [{"name": name, "kind": str(kind), "done": ""} for name, kind in types]
        else:
            described = [{"name": f"{layout.n_features:,} features", "kind": layout.kind, "done": ""}]
        missing = steps[0][1].missing_ if steps is not None and prepares else {}
        return [{**column, "missing": missing.get(column["name"])} for column in described]


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

    Raises
    ------
    ModelFileError
        The header holds no account of the fit as `luce fit` writes it.
    """
    told = _checked(header.get("metadata", {}))
    versions: dict[str, str] = {
        name: str(header[name]) for name in ("luce", "scikit-learn") if name in header
    }
    subject = Subject(model, data, told=told, versions=versions)
    trained = told["data"]["fingerprint"] == data.fingerprint
    held_out = told["held_out"] or {}
    if data.held_out is not None:
        return replace(
            subject, data=data.held_out, unseen=True, how="the test part that the data bring along"
        )
    if not trained:
        return replace(subject, unseen=True, how="not the data that the model was fitted on")
    # what a stream held out cannot be drawn again from the data
    if held_out.get("split") and told["model"].get("status") != "stream":
        _, rows = split(data.y, held_out["test_size"], told["model"]["seed"])
        if len(rows) == held_out["rows"]:
            return replace(
                subject, data=data.rows(rows), unseen=True, rows=rows, how=f"held out: {held_out['how']}"
            )
    return replace(subject, unseen=False, how="the data that the model was fitted on")


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    """Return what `luce fit` wrote of a fit, its types checked: a model file may come from anywhere."""
    try:
        model, data, held_out = told["model"], told["data"], told["held_out"]
        numbers = [model[name] for name in ("rows", "seed", "passes", "seconds")] + [data["rows"]]
        numbers += told["class_counts"] + [
            row[n] for row in told["history"] for n in ("passes", "seconds", "loss")
        ]
        numbers += [row["gap"] for row in told["history"] if row["gap"] is not None]
        numbers += [held_out["rows"], held_out["test_size"]] if held_out and held_out["split"] else []
        words = [column[name] for column in told["columns"] for name in ("name", "kind", "done")]
        words += [data["name"], data["fingerprint"], *([held_out["how"]] if held_out else [])]
        sound = all(isinstance(n, int | float) for n in numbers) and all(isinstance(w, str) for w in words)
        sound &= all({"iteration", "certified"} <= set(row) for row in told["history"])
    except (LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise ModelFileError("what the model file says of its fit is not what luce fit writes; fit again")
    return told


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
