"""What the command line keeps beside a pipeline in its model file, and reads back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from luce import model_file
from luce.data.dataset import Layout
from luce.errors import ModelFileError


@dataclass(frozen=True)
class Stored:
    """Metadata that prediction and evaluation need."""

    layout: Layout
    frequencies: np.ndarray[Any, Any]


def open_model(path: str) -> tuple[Any, Stored]:
    """Load a pipeline and the layout of its data.

    Raises
    ------
    ModelFileError
        The file is no model, or was saved without the layout by `luce.save`.
    """
    pipeline = model_file.load(path)
    metadata = model_file.read_metadata(path).get("metadata", {})
    try:
        layout = Layout.from_dict(metadata["layout"])
        counts = np.asarray(metadata["class_counts"], np.float64)
    except (KeyError, TypeError, ValueError):
        raise ModelFileError(
            f"{path}: does not say how its data were laid out, since it was not written by `luce fit`; "
            "use it from Python: luce.load(path).predict(X)"
        ) from None
    return pipeline, Stored(layout, counts / counts.sum())
