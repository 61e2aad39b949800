"""What every reader returns: the data, and the layout by which a model reads the next file alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from luce.data.labels import codes_of
from luce.errors import DataFileError


@dataclass(frozen=True)
class Layout:
    """How rows are laid out; stored with a model, so that later files are read as the first one was.

    Attributes
    ----------
    kind : {"table", "matrix", "sparse", "images"}
    n_features : int
    features : tuple of str
        Column names of a table; empty for the other kinds.
    types : tuple of {"number", "bool", "text", "time"}
        One for each column of a table.
    target : str or None
        Where the labels were found: a column or an array.
    image_shape : tuple of int or None
        (height, width) or (height, width, channels).
    one_based : bool
        Whether a libsvm file counts its features from 1.
    """

    kind: str
    n_features: int
    features: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    target: str | None = None
    image_shape: tuple[int, ...] | None = None
    one_based: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """Rebuild a layout from `to_dict`, whether or not it went through JSON.

        Examples
        --------
        >>> Layout.from_dict(Layout("images", 64, image_shape=(8, 8)).to_dict()).image_shape
        (8, 8)
        """
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)

    def only(self, names: Collection[str]) -> Layout:
        """Return the layout of a table with these columns alone."""
        kept = [(name, kind) for name, kind in zip(self.features, self.types, strict=True) if name in names]
        features, types = zip(*kept, strict=True) if kept else ((), ())
        return replace(self, n_features=len(kept), features=features, types=types)


@dataclass(frozen=True)
class Dataset:
    """Data in memory.

    Attributes
    ----------
    X : pandas.DataFrame, scipy.sparse.csr_array, or numpy.ndarray of shape (N, D)
        Images of uint8 have shape (N, height, width) or (N, height, width, channels).
    y : numpy.ndarray of shape (N,), or None where no labels were asked for
        Integers, booleans, or strings (dtype object).
    layout : Layout
    name : str
        The source, as the user wrote it.
    fingerprint : str
        A hash of the content.
    notes : tuple of str
        What the reader decided on its own and the user should know.
    held_out : Dataset or None
        Test data that the source brings along (MNIST's t10k files).
    """

    X: Any
    y: Any
    layout: Layout
    name: str
    fingerprint: str
    notes: tuple[str, ...] = ()
    held_out: Dataset | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.X.shape[0])

    def rows(self, index: np.ndarray[Any, Any]) -> Dataset:
        """Return the dataset of the rows at `index`."""
        X = self.X.iloc[index] if self.layout.kind == "table" else self.X[index]
        return replace(self, X=X, y=None if self.y is None else self.y[index], held_out=None)

    def batches(self, rows: int) -> Iterator[tuple[slice, Any]]:
        """Yield the numbers of some rows, at most `rows` of them, and their X."""
        for start in range(0, len(self), rows):
            part = slice(start, min(start + rows, len(self)))
            yield part, self.rows(np.arange(part.start, part.stop)).X

    def codes(self, classes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the index of each row's label in `classes`, -1 where it is not among them."""
        return codes_of(self.y, classes)

    def class_counts(self) -> tuple[Any, Any]:
        """Return the classes, and how many rows each of them has."""
        classes, counts = np.unique(self.y, return_counts=True)
        return classes, counts


@dataclass(frozen=True)
class Batch:
    """Some rows to predict; `names` tells them apart where the source names its rows (image files)."""

    X: Any
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.X.shape[0])


def missing_column(source: str, wanted: str, columns: Sequence[str], what: str = "column") -> DataFileError:
    """Return the error that names the columns nearest to the one that is not there."""
    near = get_close_matches(wanted, columns, n=3, cutoff=0.5)
    near = near or [c for c in columns if wanted.lower() in c.lower()][:3]
    hint = f"did you mean {_listed(near, ' or ')}?" if near else f"there are: {_listed(columns)}"
    return DataFileError(f"{source}: no {what} {wanted!r}; {hint}")


def _listed(names: Sequence[str], joiner: str = ", ", limit: int = 12) -> str:
    shown = joiner.join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def listed(names: Sequence[str]) -> str:
    """Return the names quoted, with commas, the tail of a long list only counted.

    Examples
    --------
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    return _listed(names)
