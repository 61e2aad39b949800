"""A fitted pipeline as an ONNX graph, for onnxruntime: from raw columns to label and probabilities.

The inputs are the columns as the pipeline uses them, each of shape (N, 1): numbers as float64 with NaN for
missing (dates and durations in days, percentages as fractions), categories and text as strings with "" for
missing. A matrix is one input "X". The outputs are "label" (N,) and "probabilities" (N, C) in float32;
numbers in between are float64, text weights float32. The graph uses ONNX's own operators and, for text,
onnxruntime's `Tokenizer`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from luce.data.cells import UNSPACED, WORD_OR_CHARACTER
from luce.errors import InputError, MissingExtraError
from luce.files import written_whole

Array = np.ndarray[Any, Any]

OPSETS = {"": 17, "ai.onnx.ml": 3, "com.microsoft": 1}
IR_VERSION = 8
LOCALE = "C.UTF-8"  # lower-cases all scripts, and is there on every recent Linux

# The same characters, as the tokenizer's regular expressions (RE2) write them.
_UNSPACED = re.sub(r"\\u([0-9a-f]{4})", r"\\x{\1}", UNSPACED)
# What is no \w in Python: all but letters and numbers, save "_" among the connectors.
_NO_WORD = (
    r"\pM\pS\pZ\pC\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}"
    r"\x{203F}\x{2040}\x{2054}\x{FE33}\x{FE34}\x{FE4D}-\x{FE4F}\x{FF3F}"
)
_TOKENS = {
    r"(?u)\b\w\w+\b": r"[\p{L}\p{N}_]{2,}",
    WORD_OR_CHARACTER: rf"[{_UNSPACED}]|[^{_NO_WORD}{_UNSPACED}]{{2,}}",
}


@dataclass(frozen=True)
class Tensor:
    """A named tensor of shape (N, width)."""

    name: str
    width: int
    dtype: str = "float64"


def to_onnx(pipeline: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted pipeline as an ONNX file.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline or SoftmaxClassifier
        Fitted, as `luce.data.columns.make_pipeline` makes it, or of scalers, imputers and projections before
        a softmax classifier.
    path : str or path

    Raises
    ------
    InputError
        A step cannot be exported: hashed text, other tokenizers, other transformers.
    MissingExtraError
        The package onnx is not installed.
    OSError
        The file cannot be written; nothing is left behind.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("the export to ONNX", "onnx") from error
    steps = [step for _, step in pipeline.steps] if hasattr(pipeline, "steps") else [pipeline]
    graph = _Graph()
    blocks = _transform(graph, steps[:-1], _inputs(graph, steps[0], steps[-1]))
    _classify(graph, steps[-1], blocks)
    model = graph.model()
    onnx.checker.check_model(model)
    with written_whole(path) as file:
        file.write(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes, constants, inputs and outputs; made names start with "/", which is kept for them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> Tensor:
        if not name or name.startswith("/") or name in ("label", "probabilities"):
            raise InputError(f"an ONNX input cannot be named {name!r}; rename that column and fit again")
        self.inputs.append(self._value(name, dtype, ["N", *shape]))
        return Tensor(name, int(np.prod(shape)), dtype)

    def output(self, name: str, made: str, dtype: str, shape: Sequence[int]) -> None:
        self.add("Identity", made, output=name)
        self.outputs.append(self._value(name, dtype, ["N", *shape]))

    def constant(self, array: Any) -> str:
        from onnx import helper, numpy_helper

        name = f"/constant{len(self.constants)}"
        array = np.asarray(array)
        if array.dtype.kind in "OU":
            texts = [str(v).encode() for v in array.ravel()]
            self.constants.append(helper.make_tensor(name, _onnx_type("string"), array.shape, texts))
        else:
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = output or f"/{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def cast(self, tensor: str, dtype: str) -> str:
        return self.add("Cast", tensor, to=_onnx_type(dtype))

    def model(self) -> Any:
        from onnx import helper

        import luce

        graph = helper.make_graph(self.nodes, "luce", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="luce",
            producer_version=luce.__version__,
        )

    @staticmethod
    def _value(name: str, dtype: str, shape: list[str | int]) -> Any:
        from onnx import helper

        return helper.make_tensor_value_info(name, _onnx_type(dtype), shape)


def _onnx_type(dtype: str) -> int:
    from onnx import TensorProto, helper

    return TensorProto.STRING if dtype == "string" else int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _inputs(graph: _Graph, first: Any, classifier: Any) -> dict[str, Tensor]:
    name = type(first).__name__
    if name == "Table":
        kinds = first.columns.items()
        strings = ("category", "text")
        return {c: graph.input(c, "string" if kind in strings else "float64", [1]) for c, kind in kinds}
    if name == "Pixels":
        return {"X": graph.input("X", "uint8", first.image_shape_)}
    dtype = "float32" if classifier.coef_.dtype == np.float32 else "float64"
    return {"X": graph.input("X", dtype, [int(first.n_features_in_)])}


def _transform(graph: _Graph, steps: list[Any], columns: dict[str, Tensor]) -> list[Tensor]:
    """Return the blocks that, side by side, make the classifier's input."""
    blocks = list(columns.values())
    for step in steps:
        name = type(step).__name__
        if name == "Table":
            continue
        if name == "ColumnTransformer" and columns.keys() >= set(getattr(step, "feature_names_in_", [None])):
            blocks = _column_blocks(graph, step, columns)
        else:
            blocks = [_apply(graph, step, _joined(graph, blocks))]
    return blocks


def _column_blocks(graph: _Graph, encoder: Any, columns: dict[str, Tensor]) -> list[Tensor]:
    blocks = []
    for _, step, used in encoder.transformers_:
        if step == "drop":
            continue
        tensors = [columns[name] for name in ([used] if isinstance(used, str) else used)]
        if type(step).__name__ == "OneHotEncoder":
            blocks += _one_hot(graph, step, tensors)
        elif type(step).__name__ in ("TfidfVectorizer", "Words"):
            blocks.append(_tfidf(graph, step, tensors[0]))
        else:
            blocks.append(_apply(graph, step, _joined(graph, tensors)))
    return blocks


def _joined(graph: _Graph, blocks: list[Tensor]) -> Tensor:
    names = [b.name if b.dtype == "float64" else graph.cast(b.name, "float64") for b in blocks]
    joined = names[0] if len(names) == 1 else graph.add("Concat", *names, axis=1)
    return Tensor(joined, sum(b.width for b in blocks))


def _apply(graph: _Graph, step: Any, x: Tensor) -> Tensor:
    name = type(step).__name__
    if name == "Pipeline":
        for _, inner in step.steps:
            x = _apply(graph, inner, x)
        return x
    if name not in _CONVERTERS:
        known = ", ".join(sorted({*_CONVERTERS, "ColumnTransformer", "OneHotEncoder", "TfidfVectorizer"}))
        raise InputError(f"{name} cannot be exported to ONNX; these can: {known}")
    return _CONVERTERS[name](graph, step, x)


def _affine(graph: _Graph, x: Tensor, subtract: Any = None, divide: Any = None, add: Any = None) -> Tensor:
    name = x.name
    for operator, operand in (("Sub", subtract), ("Div", divide), ("Add", add)):
        if operand is not None:
            name = graph.add(operator, name, graph.constant(np.asarray(operand, dtype=np.float64)))
    return Tensor(name, x.width)


def _pixels(graph: _Graph, step: Any, x: Tensor) -> Tensor:
    # The model saw pixels rounded to float32, so they are rounded here too.
    fractions = graph.add("Div", graph.cast(x.name, "float32"), graph.constant(np.float32(255)))
    return Tensor(graph.cast(graph.add("Flatten", fractions, axis=1), "float64"), x.width)


def _impute(graph: _Graph, step: Any, x: Tensor) -> Tensor:
    if not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
        raise InputError("an imputer of other values than NaN cannot be exported to ONNX")
    missing = graph.add("IsNaN", x.name)
    filled = graph.add(
        "Where", missing, graph.constant(np.asarray(step.statistics_, dtype=np.float64)[None]), x.name
    )
    if step.indicator_ is None or not len(step.indicator_.features_):
        return Tensor(filled, x.width)
    flags = graph.add("Gather", missing, graph.constant(step.indicator_.features_.astype(np.int64)), axis=1)
    both = graph.add("Concat", filled, graph.cast(flags, "float64"), axis=1)
    return Tensor(both, x.width + len(step.indicator_.features_))


def _project(graph: _Graph, components: Array, x: Tensor, centre: Array | None = None) -> Tensor:
    x = _affine(graph, x, subtract=centre)
    weights = graph.constant(np.asarray(components.T, dtype=np.float64))
    return Tensor(graph.add("MatMul", x.name, weights), len(components))


def _pca(graph: _Graph, step: Any, x: Tensor) -> Tensor:
    z = _project(graph, step.components_, x, step.mean_)
    return _affine(graph, z, divide=np.sqrt(step.explained_variance_)) if step.whiten else z


_CONVERTERS: dict[str, Callable[[_Graph, Any, Tensor], Tensor]] = {
    "MaxAbsScaler": lambda graph, step, x: _affine(graph, x, divide=step.scale_),
    "MinMaxScaler": lambda graph, step, x: _affine(graph, x, divide=1 / step.scale_, add=step.min_),
    "PCA": _pca,
    "Pixels": _pixels,
    "RobustScaler": lambda graph, step, x: _affine(graph, x, step.center_, step.scale_),
    "SimpleImputer": _impute,
    "StandardScaler": lambda graph, step, x: _affine(
        graph, x, step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None
    ),
    "TruncatedSVD": lambda graph, step, x: _project(graph, step.components_, x),
}


def _one_hot(graph: _Graph, encoder: Any, columns: list[Tensor]) -> list[Tensor]:
    if encoder.handle_unknown not in ("ignore", "infrequent_if_exist") or encoder.drop is not None:
        raise InputError(
            "a OneHotEncoder that drops categories or fails on unseen ones cannot be exported to ONNX"
        )
    rare = getattr(encoder, "infrequent_categories_", [None] * len(columns))
    return [_one_hot_column(graph, *parts) for parts in zip(columns, encoder.categories_, rare, strict=True)]


def _one_hot_column(graph: _Graph, column: Tensor, categories: Array, rare: Array | None) -> Tensor:
    """Look the position up; rare and, where there are rare ones, unseen categories share the last."""
    keys = ["" if c is None or c != c else str(c) for c in categories]
    rare_keys = set() if rare is None else {"" if c is None or c != c else str(c) for c in rare}
    frequent = [key for key in keys if key not in rare_keys]
    width = len(frequent) + bool(rare_keys)
    last = len(frequent) if rare_keys else -1
    # "" is both the missing cell and an empty string; where a table holds both, the empty string gives way.
    places = {key: i for i, key in enumerate(frequent)} | dict.fromkeys(rare_keys, last)
    found = graph.add(
        "LabelEncoder",
        column.name,
        domain="ai.onnx.ml",
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=last,
    )
    hot = graph.add("Equal", found, graph.constant(np.arange(width, dtype=np.int64)[None]))
    return Tensor(graph.cast(hot, "float64"), width)


def _tfidf(graph: _Graph, vectorizer: Any, column: Tensor) -> Tensor:
    """Return TF-IDF weights in float32, as `TfidfVectorizer` computes them."""
    _check_text_options(vectorizer)
    text = graph.add("Reshape", column.name, graph.constant(np.array([-1], dtype=np.int64)))
    if vectorizer.lowercase:
        text = graph.add("StringNormalizer", text, case_change_action="LOWER", locale=LOCALE)
    tokens = graph.add(
        "Tokenizer",
        text,
        domain="com.microsoft",
        tokenexp=_TOKENS[vectorizer.token_pattern],
        mark=0,
        mincharnum=1,
        pad_value="",
    )
    smallest, largest = vectorizer.ngram_range
    grams = [(gram.split(" "), int(i)) for gram, i in vectorizer.vocabulary_.items()]
    grams.sort(key=lambda gram: (len(gram[0]), gram[1]))
    sizes = [sum(len(words) for words, _ in grams if len(words) == n) for n in range(1, largest + 1)]
    tf = graph.add(
        "TfIdfVectorizer",
        tokens,
        mode="TF",
        min_gram_length=smallest,
        max_gram_length=largest,
        max_skip_count=0,
        ngram_counts=list(accumulate([0, *sizes[:-1]])),
        ngram_indexes=[i for _, i in grams],
        pool_strings=[word for words, _ in grams for word in words],
    )
    return Tensor(graph.cast(_weighted(graph, vectorizer, tf), "float64"), len(grams))


def _weighted(graph: _Graph, vectorizer: Any, tf: str) -> str:
    if vectorizer.sublinear_tf:
        one = graph.constant(np.float32(1))
        # log(max(tf, 1)) is 0 for absent words, as min(tf, 1) is; their sum is 1 + log(tf) for the others.
        tf = graph.add("Add", graph.add("Min", tf, one), graph.add("Log", graph.add("Max", tf, one)))
    if vectorizer.use_idf:
        tf = graph.add("Mul", tf, graph.constant(vectorizer.idf_.astype(np.float32)[None]))
    if vectorizer.norm == "l2":
        tf = graph.add("LpNormalization", tf, axis=1, p=2)
    return tf


def _check_text_options(vectorizer: Any) -> None:
    plain = {"analyzer": "word", "strip_accents": None, "stop_words": None, "binary": False}
    plain |= {"tokenizer": None, "preprocessor": None}
    for name, value in plain.items():
        if getattr(vectorizer, name) != value:
            raise InputError(f"text cut with {name}={getattr(vectorizer, name)!r} cannot be exported to ONNX")
    if vectorizer.token_pattern not in _TOKENS:
        raise InputError(
            f"the token_pattern {vectorizer.token_pattern!r} cannot be exported; use the default"
        )
    if vectorizer.norm not in ("l2", None):
        raise InputError(
            f"text weights of norm {vectorizer.norm!r} cannot be exported to ONNX; use 'l2' or None"
        )


def _classify(graph: _Graph, classifier: Any, blocks: list[Tensor]) -> None:
    coef = np.asarray(classifier.coef_, dtype=np.float64)
    intercept = np.broadcast_to(np.asarray(classifier.intercept_, dtype=np.float64), len(coef))
    if len(coef) == 1:  # two classes with one weight vector: the first class scores 0
        coef, intercept = np.vstack([np.zeros_like(coef), coef]), np.array([0.0, intercept[0]])
    scores, start = graph.constant(intercept[None]), 0
    for block in blocks:
        weights = graph.constant(np.ascontiguousarray(coef[:, start : start + block.width].T))
        scores = graph.add("Add", scores, graph.add("MatMul", _joined(graph, [block]).name, weights))
        start += block.width
    if start != coef.shape[1]:
        raise InputError(
            f"the classifier takes {coef.shape[1]} features, but the steps before it give {start}"
        )
    probabilities = graph.cast(graph.add("Softmax", scores, axis=1), "float32")
    graph.output("probabilities", probabilities, "float32", [len(coef)])

    classes = np.asarray(classifier.classes_)
    texts = classes.dtype.kind in "OUS"
    labels = [c.decode() if isinstance(c, bytes) else str(c) for c in classes] if texts else classes
    best = graph.add("ArgMax", scores, axis=1, keepdims=0)
    label = graph.add("Gather", graph.constant(labels), best)
    graph.output("label", label, "string" if texts else classes.dtype.name, [])
