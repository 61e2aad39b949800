"""The one door: what is passed as X becomes what it is fitted as, wherever the samples lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from luce.errors import InputError, MissingExtraError
from luce.loss.inputs import Array
from luce.objective import Data

_CPU = 1  # DLPack's number of it


class Samples(ABC):
    """Samples (N, D) outside this process's arrays; labels make them :class:`luce.objective.Data`."""

    n_features: int
    feature_names: Array | None = None  # of a table

    @abstractmethod
    def labelled(self, y: Any, weight: Any, class_weight: Any, n_threads: int | None) -> tuple[Array, Data]:
        """Return the classes, and the samples with their labels numbered and class_weight in the weights."""

    def like(self, values: Array) -> Any:
        """Return what was fitted to the samples as an array of their kind."""
        return values


def located(X: Any, memory: int | str | None = None) -> Any:
    """Return X as :class:`Samples` if it is in tensors, on a cluster, or on disk and larger than `memory`.

    Parameters
    ----------
    X : object
        Memory-mapped NPY files, Zarr arrays, Dask arrays and data frames, PyTorch tensors and what gives
        them by DLPack are known. Anything else is returned as it is.
    memory : int or str, optional
        Bytes, or such as "1GiB"; by default a quarter of the memory of the machine.
    """
    if isinstance(X, Samples):
        return X
    package = type(X).__module__.partition(".")[0]
    if is_tensor(X):
        return in_tensors(X)
    if package == "dask":
        from luce.blocks.cluster import DaskSamples

        return DaskSamples(X)
    if not (isinstance(X, np.memmap) or package == "zarr"):
        return X
    from luce.blocks.disk import DiskSamples
    from luce.blocks.memory import as_bytes
    from luce.blocks.rows import rows_of

    if X.ndim != 2:
        raise InputError(f"X has {X.ndim} dimension(s), shape {X.shape}: pass a 2-D array, samples as rows")
    bound = as_bytes(memory)
    if X.nbytes <= bound:
        return X if isinstance(X, np.memmap) else np.asarray(X)
    return DiskSamples(rows_of(X), bound)


def in_tensors(X: Any, device: str | None = None) -> Samples:
    """Return a tensor as samples, or with a device a dense NumPy array, which is sent there."""
    try:
        from luce.blocks.tensors import TensorSamples
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("a fit on a GPU", "torch") from error
    return TensorSamples(X, device)


def is_tensor(X: Any) -> bool:
    """Whether X is a PyTorch tensor, or gives one by DLPack and no NumPy array, as arrays on GPUs do."""
    if type(X).__module__.partition(".")[0] == "torch":
        return hasattr(X, "layout")
    if not hasattr(X, "__dlpack_device__"):
        return False
    return not hasattr(X, "__array__") or X.__dlpack_device__()[0] != _CPU


def on_host(values: Any) -> Array:
    """Return an array or a tensor on any device as a NumPy array."""
    if is_tensor(values):
        from torch import Tensor
        from torch.utils.dlpack import from_dlpack

        values = (values if isinstance(values, Tensor) else from_dlpack(values)).detach().cpu()
    return np.asarray(values)
