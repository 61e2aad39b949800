"""Parquet data sets read, prepared and fitted by the workers of a Dask cluster: rows never leave them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from luce.data.columns import encoder, make_pipeline
from luce.data.dataset import Layout
from luce.data.labels import numbered
from luce.data.large import LargeDataset
from luce.data.statistics import Statistics
from luce.data.streams import reading
from luce.data.tables import find_target
from luce.errors import DataFileError, MissingExtraError

Array = np.ndarray[Any, Any]
_SAMPLE = 20_000  # rows from which the kinds of the columns are told
_TYPES = {"b": "bool", "i": "number", "u": "number", "f": "number", "M": "time"}


@dataclass(frozen=True)
class Table:
    """A table whose partitions are read by workers."""

    client: Any
    parts: list[Any]  # delayed pandas frames
    ends: Array  # the first row of each part, and the number of rows
    sample: pd.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.ends[-1]), self.sample.shape[1]

    def run(self, function: Any, index: Array, *args: Any, each: list[Any] | None = None) -> list[Any]:
        """Return delayed calls of a function with each part that has rows in the index.

        It is given the part, its columns, which of its rows are in the index, its own one of `each`, if any,
        and the other arguments.
        """
        from dask import delayed

        mask = np.zeros(self.shape[0], dtype=bool)
        mask[index] = True
        columns = list(self.sample.columns)
        masks = np.split(mask, self.ends[1:-1])
        shared = [delayed(arg) for arg in args]  # sent once
        own = [()] * len(masks) if each is None else [(one,) for one in each]
        return [
            delayed(function)(part, columns, of_part, *one, *shared)
            for part, of_part, one in zip(self.parts, masks, own, strict=True)
            if of_part.any()
        ]

    def gathered(self, tasks: list[Any]) -> list[Any]:
        """Return the results of delayed calls."""
        results: list[Any] = self.client.gather(self.client.compute(tasks))
        return results


@contextmanager
def connected(cluster: str) -> Iterator[Any]:
    """Connect to the scheduler at an address such as ``tcp://10.0.0.1:8786``; "local" starts workers here."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise MissingExtraError("--cluster", "dask") from None
    if cluster == "local":
        with LocalCluster(dashboard_address=None) as here, Client(here) as client:
            yield client
        return
    try:
        client = Client(cluster, timeout=20)
    except (OSError, ValueError) as error:
        raise DataFileError(f"--cluster {cluster}: no Dask scheduler answers there ({error})") from error
    with client:
        yield client


def read(source: str, target: str | None, client: Any) -> LargeDataset:
    """Return the Parquet files of a folder or a pattern; only labels and some rows are brought here."""
    import dask.dataframe as dd
    from dask import delayed

    with reading(source):
        frame = dd.read_parquet(source)
    target, notes = find_target(source, [str(name) for name in frame.columns], target)
    parts = frame.to_delayed()
    looked = [delayed(_look)(part, target, -(-_SAMPLE // len(parts))) for part in parts]
    labels, samples = zip(*client.gather(client.compute(looked)), strict=True)
    sample = pd.concat(samples, ignore_index=True)
    y, classes, said = numbered(labels, source, target)
    types = tuple(_TYPES.get(getattr(dtype, "kind", "O"), "text") for dtype in sample.dtypes)
    layout = Layout("table", sample.shape[1], tuple(sample.columns), types, target)
    table = Table(client, parts, np.cumsum([0, *(len(part) for part in labels)]), sample)
    digest = f"dask:{frame.npartitions} partitions of {len(y)} rows"
    return LargeDataset(table, y, layout, source, digest, (*notes, *said), classes=classes)


def fit(train: LargeDataset, classifier: Any, text: list[str] | None = None) -> Pipeline:
    """Fit a pipeline; the statistics of its columns are gathered on the workers too."""
    import dask.array as da

    table: Table = train.X
    index = np.arange(len(train)) if train.index is None else train.index
    planned = make_pipeline(table.sample, None, text=text)[0]
    encode = encoder(table.sample, planned.columns, len(index))
    found = Statistics()
    for part in table.gathered(table.run(_statistics, index, planned.columns, encode)):
        found.update(part)
    found.fit(planned, encode, table.sample)
    like = encode.transform(planned.transform(table.sample[:1]))
    counts = np.diff(np.searchsorted(index, table.ends))
    blocks = [
        da.from_delayed(block, (count, like.shape[1]), like.dtype)
        for block, count in zip(
            table.run(_encoded, index, planned, encode), counts[counts > 0].tolist(), strict=True
        )
    ]
    train.learned(classifier, da.concatenate(blocks))
    return Pipeline([("table", planned), ("encode", encode), ("classifier", classifier)])


def scores(pipeline: Pipeline, part: LargeDataset) -> tuple[Array, Array, Array]:
    """Return the true and the predicted classes of some rows, by number, and log p of the true ones."""
    index = np.arange(len(part)) if part.index is None else part.index
    truth = part.codes(pipeline.classes_)
    pieces = np.split(truth, np.searchsorted(index, part.X.ends[1:-1]))
    found = part.X.gathered(part.X.run(_scored, index, pipeline, each=pieces))
    predicted, likelihood = zip(*found, strict=True)
    return truth, np.concatenate(predicted), np.concatenate(likelihood)


# What follows runs on the workers.


def _look(part: pd.DataFrame, target: str, rows: int) -> tuple[Array, pd.DataFrame]:
    """Return the labels of a part, and some rows of it."""
    y = part[target].to_numpy()
    return y, part.drop(columns=target).iloc[:: max(1, len(part) // rows)]


def _statistics(part: pd.DataFrame, columns: list[str], mask: Array, kinds: Any, encode: Any) -> Statistics:
    return Statistics.of(part[columns][mask], kinds, encode)


def _encoded(part: pd.DataFrame, columns: list[str], mask: Array, table: Any, encode: Any) -> Any:
    return encode.transform(table.transform(part[columns][mask]))


def _scored(
    part: pd.DataFrame, columns: list[str], mask: Array, truth: Array, pipeline: Pipeline
) -> tuple[Array, Array]:
    proba = pipeline.predict_log_proba(part[columns][mask])
    return proba.argmax(axis=1), proba[np.arange(len(truth)), truth]
