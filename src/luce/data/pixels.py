"""Images of 8-bit pixels as rows of float32 between 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from luce.errors import InputError

Array = np.ndarray[Any, Any]


class Pixels(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Divide pixels (0 to 255) by 255 and lay each image out as one row of float32.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of one image, (D,) where rows were given.

    Examples
    --------
    >>> Pixels().fit_transform(np.full((3, 2, 2), 255, np.uint8))[0]
    array([1., 1., 1., 1.], dtype=float32)
    """

    def fit(self, X: Array, y: Any = None) -> Pixels:
        """Learn the shape of the images."""
        self.image_shape_ = tuple(int(n) for n in X.shape[1:])
        self.n_features_in_ = int(np.prod(self.image_shape_))
        return self

    def transform(self, X: Array) -> Array:
        """Return float32 rows, shape (N, D).

        Raises
        ------
        InputError
            X holds no whole numbers from 0 to 255, or images of another size.
        """
        X = np.asarray(X)
        if X.dtype != np.uint8 and not (X.dtype.kind in "iu" and np.all((X >= 0) & (X <= 255))):
            raise InputError(f"pixels are whole numbers from 0 to 255, as those fitted; these are {X.dtype}")
        if int(np.prod(X.shape[1:])) != self.n_features_in_:
            raise InputError(
                f"images have shape {X.shape[1:]}, but those fitted had {self.image_shape_}; resize them"
            )
        rows: Array = np.divide(X.reshape(X.shape[0], -1), np.float32(255), dtype=np.float32)
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return "pixel0", "pixel1", ... in row-major order."""
        return np.array([f"pixel{i}" for i in range(self.n_features_in_)], dtype=object)
