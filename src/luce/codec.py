"""Fitted pipelines as plain data: a tree that JSON can hold, and arrays of numbers.

Only classes and functions named in `_KNOWN` are written or rebuilt. Rebuilding one calls its constructor with
its parameters and sets its fitted attributes; nothing else in the data can name code.

A value of the tree is None, a truth value, a number, a string, a list, or an object with one key, its tag::

    {"float": "nan"}                     numbers that JSON has no word for
    {"tuple": [...]}  {"slice": [...]}
    {"dict": [[key, value], ...]}
    {"array": [index, dtype, order]}     the array of that index; strings as their code points
    {"objects": [shape, items]}          an array of Python objects
    {"scalar": [dtype, value]}           a NumPy number or string
    {"dtype": name}  {"type": name}      np.dtype("float64") and np.float64
    {"function": name}
    {"estimator": [class, parameters, fitted attributes]}
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections import UserList
from collections.abc import Callable
from typing import Any

import numpy as np

from luce.errors import InputError, ModelFileError

Array = np.ndarray[Any, Any]

_KNOWN = {
    name: module
    for module, names in {
        "luce.data.pixels": "Pixels",
        "luce.data.table": "Table",
        "luce.data.words": "Words",
        "luce.estimator": "SoftmaxClassifier",
        "luce.path": "SoftmaxClassifierCV SoftmaxPath",
        "luce.solvers": "LBFGS Newton NewtonCG Proximal SGD",
        "sklearn.compose": "ColumnTransformer",
        "sklearn.decomposition": "PCA TruncatedSVD",
        "sklearn.feature_extraction.text": (
            "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer"
        ),
        "sklearn.feature_selection": "SelectKBest SelectPercentile VarianceThreshold chi2 f_classif",
        "sklearn.impute": "MissingIndicator SimpleImputer",
        "sklearn.pipeline": "FeatureUnion Pipeline",
        "sklearn.preprocessing": (
            "Binarizer FunctionTransformer KBinsDiscretizer MaxAbsScaler MinMaxScaler Normalizer "
            "OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer QuantileTransformer "
            "RobustScaler StandardScaler"
        ),
    }.items()
    for name in names.split()
}
# Callbacks and routing serve fitting only; a cache folder would be read as pickles; the last is an address.
_LEFT_OUT = frozenset({"callbacks", "device", "memory", "_metadata_request", "_stop_words_id"})
_FLOATS = ("float16", "float32", "float64")
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_NUMPY_TYPES = frozenset(("bool", *_INTEGERS, *_FLOATS))
_UNITS = re.compile(r"<[Mm]8\[(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]")


def encode(estimator: Any) -> tuple[Any, list[Array]]:
    """Return an estimator as a tree of plain values, and the arrays that the tree refers to by index.

    Raises
    ------
    InputError
        A part of it is of a class that cannot be saved; the message names the part.
    """
    encoder = _Encoder()
    return encoder.value(estimator, ""), encoder.arrays


def decode(tree: Any, arrays: list[Array]) -> Any:
    """Rebuild what `encode` gave.

    Raises
    ------
    ModelFileError
        The tree names what is not known, or does not fit together.
    """
    try:
        return _Decoder(arrays).value(tree)
    except ModelFileError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        ImportError,
        LookupError,
        MemoryError,
        RecursionError,
        SyntaxError,  # of np.dtype(",f8")
        TypeError,
        ValueError,
    ) as error:
        raise ModelFileError(f"its parts do not fit together ({type(error).__name__}: {error})") from error


class _Encoder:
    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def value(self, value: Any, where: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind is list:
            return self.items(value, where)
        if isinstance(value, UserList):  # scikit-learn 1.6 keeps columns in one that warns when read
            return self.items(value.data, where)
        if kind is tuple:
            return {"tuple": self.items(value, where)}
        if kind is slice:
            return {"slice": [self.value(v, where) for v in (value.start, value.stop, value.step)]}
        if kind is dict:
            return {
                "dict": [[self.value(k, where), self.value(v, f"{where}[{k!r}]")] for k, v in value.items()]
            }
        if isinstance(value, np.ndarray):
            return self.array(value, where)
        if isinstance(value, np.generic):
            return {"scalar": [value.dtype.str, self.value(value.item(), where)]}
        if isinstance(value, np.dtype) and value.name in _NUMPY_TYPES:
            return {"dtype": value.name}
        return self.known(value, where)

    def items(self, values: Any, where: str) -> list[Any]:
        return [self.value(v, f"{where}[{i}]") for i, v in enumerate(values)]

    def array(self, array: Array, where: str) -> Any:
        if array.dtype == object:
            return {"objects": [list(array.shape), self.items(array.ravel().tolist(), where)]}
        array = np.asarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        # BLAS sums in another order in the other layout, so the layout is part of the model.
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        plain = np.array(array.T if order == "F" else array, order="C")
        if array.dtype.kind in "US":
            element = np.dtype(np.uint32 if array.dtype.kind == "U" else np.uint8)
            width = plain.dtype.itemsize // element.itemsize
            plain = np.frombuffer(plain.tobytes(), element).reshape(*plain.shape, width)
        elif array.dtype.kind in "Mm":
            plain = plain.view(np.int64)
        elif array.dtype.name not in _NUMPY_TYPES:
            raise InputError(f"{_part(where)} is an array of {array.dtype}, which a model file cannot hold")
        self.arrays.append(plain)
        return {"array": [len(self.arrays) - 1, array.dtype.str, order]}

    def known(self, value: Any, where: str) -> Any:
        if isinstance(value, type):
            if value.__name__ in _NUMPY_TYPES and value is np.dtype(value.__name__).type:
                return {"type": value.__name__}
        elif getattr(value, "__name__", None) in _KNOWN and value is _known(value.__name__):
            return {"function": value.__name__}
        elif type(value).__name__ in _KNOWN and type(value) is _known(type(value).__name__):
            return self.estimator(value, where)
        raise InputError(
            f"{_part(where)} cannot be saved: a model file holds no {type(value).__name__} "
            f"({repr(value)[:80]}), as opening it could run code; "
            "use one of scikit-learn's common transformers, or do this step outside the pipeline"
        )

    def estimator(self, value: Any, where: str) -> Any:
        defaults = _parameters(type(value))
        if getattr(value, "input", "content") != "content":
            raise InputError(f"{_part(where)} reads files; only input='content' can be saved")
        parameters: dict[str, Any] = {}
        fitted: dict[str, Any] = {}
        for name, part in vars(value).items():
            # Defaults are left out, so that parameters which come and go between versions do no harm.
            if name in _LEFT_OUT or (name in defaults and _same(part, defaults[name])):
                continue
            if isinstance(part, np.random.RandomState | np.random.Generator):  # it served the fit
                continue
            tree = self.value(part, f"{where}.{name}" if where else name)
            (parameters if name in defaults else fitted)[name] = tree
        return {"estimator": [type(value).__name__, parameters, fitted]}


class _Decoder:
    def __init__(self, arrays: list[Array]) -> None:
        self.arrays: list[Array | None] = list(arrays)
        self.tags: dict[str, Callable[[Any], Any]] = {
            "float": lambda text: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[text],
            "tuple": lambda items: tuple(self.value(v) for v in items),
            "slice": lambda items: slice(*(self.value(v) for v in items)),
            "dict": lambda items: {self.value(k): self.value(v) for k, v in items},
            "array": lambda parts: self.array(*parts),
            "objects": lambda parts: self.objects(*parts),
            "scalar": lambda parts: np.array(self.value(parts[1]), dtype=_plain_dtype(parts[0]))[()],
            "dtype": lambda name: _numpy_dtype(name),
            "type": lambda name: _numpy_dtype(name).type,
            "function": self.function,
            "estimator": lambda parts: self.estimator(*parts),
        }

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(v) for v in tree]
        if not isinstance(tree, dict):
            return tree
        ((tag, content),) = tree.items()
        return self.tags[tag](content)

    def array(self, index: int, dtype: str, order: str) -> Array:
        plain = self.arrays[index]
        if plain is None:
            raise ModelFileError("it refers to an array twice")
        self.arrays[index] = None  # each is used once, so that a small file cannot fill the memory
        array = plain.copy()
        if dtype[1] in "US":
            array = _strings(array, dtype)
        elif dtype[1] in "Mm":
            array = array.view(_plain_dtype(dtype))
        if array.dtype.str != dtype:
            raise ModelFileError(f"an array of {array.dtype} is said to be {dtype}")
        return array.T if order == "F" else array

    def objects(self, shape: list[int], items: list[Any]) -> Array:
        if math.prod(shape) != len(items):
            raise ModelFileError("an array has another size than its shape says")
        array = np.empty(len(items), dtype=object)
        for i, item in enumerate(items):
            array[i] = self.value(item)
        return array.reshape(shape)

    def function(self, name: str) -> Any:
        found = _known(name)
        if isinstance(found, type):
            raise ModelFileError(f"{name} is no function")
        return found

    def estimator(self, name: str, parameters: dict[str, Any], fitted: dict[str, Any]) -> Any:
        cls = _known(name)
        unknown = (set(parameters) - set(_parameters(cls))) | (set(parameters) & _LEFT_OUT)
        if unknown:
            raise ModelFileError(
                f"{name} has no parameter {min(unknown)!r} here; another luce or scikit-learn wrote it"
            )
        estimator = cls(**{key: self.value(part) for key, part in parameters.items()})
        if getattr(estimator, "input", "content") != "content":
            raise ModelFileError(f"{name} would read files named in the data")
        if (
            name == "SimpleImputer" and "_fit_dtype" in fitted
        ):  # a newer scikit-learn reads one more attribute
            fitted = {"_fill_dtype": fitted["_fit_dtype"]} | fitted
        for key, part in fitted.items():
            # A fitted attribute never hides a method.
            if key in _LEFT_OUT or hasattr(cls, key) or not key.isidentifier():
                raise ModelFileError(f"{name} has no attribute {key!r} that could be set")
            object.__setattr__(estimator, key, self.value(part))
        return estimator


def _known(name: str) -> Any:
    if name not in _KNOWN:
        raise ModelFileError(f"it names {name!r}, which is not among the parts that a model file may hold")
    return getattr(importlib.import_module(_KNOWN[name]), name)


def _parameters(cls: type) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(cls).parameters.items()}


def _same(value: Any, default: Any) -> bool:
    plain = isinstance(default, bool | int | float | str | None)
    return plain and type(value) is type(default) and repr(value) == repr(default)


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name not in _NUMPY_TYPES:
        raise ModelFileError(f"it names the type {name!r}, which is none of NumPy's numbers")
    return np.dtype(name)


def _plain_dtype(text: str) -> np.dtype[Any]:
    """Return the dtype of numbers, dates, or strings without a length (which could claim any memory)."""
    if text[1] in "US" or _UNITS.fullmatch(text):
        return np.dtype(text if text[1] in "Mm" else text[1])
    return _numpy_dtype(np.dtype(text[:3]).name)


def _strings(codes: Array, dtype: str) -> Array:
    kind, element = dtype[1], np.uint32 if dtype[1] == "U" else np.uint8
    if codes.dtype != element or codes.ndim == 0 or codes.shape[-1] == 0:
        raise ModelFileError("an array of strings is stored as something else")
    if kind == "U" and codes.size and codes.max() > 0x10FFFF:
        raise ModelFileError("an array of strings holds what is no character")
    return codes.view(f"<U{codes.shape[-1]}" if kind == "U" else f"|S{codes.shape[-1]}").reshape(
        codes.shape[:-1]
    )


def _part(where: str) -> str:
    return f"the part {where!r}" if where else "this object"
