"""Model files: a fitted pipeline in one file that can be opened without running anything in it.

The file is in the safetensors format: numbers as tensors, the pipeline's structure as JSON (the tensor
"tree", see `luce.codec`), and a short header with versions, classes, the user's metadata and a SHA-256 of it
all. There is no time stamp in it: the same model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import warnings
from typing import Any

import numpy as np

from luce.codec import decode, encode
from luce.errors import InputError, LuceError, ModelFileError
from luce.files import written_whole

FORMAT_VERSION = 1
MAX_HEADER = 100_000_000  # bytes; the safetensors library's own bound

Array = np.ndarray[Any, Any]
Path = str | os.PathLike[str]


def save(pipeline: Any, path: Path, metadata: dict[str, Any] | None = None) -> None:
    """Write a fitted pipeline, or a fitted classifier alone, to a model file.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline, SoftmaxClassifier or SoftmaxClassifierCV
        Fitted. Its parts may be luce's own and scikit-learn's common transformers; callbacks are left out.
    path : str or path
        Replaced as a whole or, after an error, not at all.
    metadata : dict, optional
        Anything that JSON can hold; `read_metadata` gives it back.

    Raises
    ------
    InputError
        A part of the pipeline, or the metadata, cannot be saved.
    LuceError
        The file cannot be written.

    Examples
    --------
    >>> import luce
    >>> folder = getfixture("tmp_path")
    >>> model = luce.SoftmaxClassifier().fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"])
    >>> luce.save(model, folder / "m.luce", metadata={"target": "y"})
    >>> luce.load(folder / "m.luce").predict([[2.5]])
    array(['b'], dtype='<U1')
    """
    classifier = _classifier(pipeline)
    if not hasattr(classifier, "classes_"):
        raise InputError("the model is not fitted yet; call fit before save")
    tree, arrays = encode(pipeline)
    tensors = {str(i): array for i, array in enumerate(arrays)}
    tensors["tree"] = np.frombuffer(json.dumps(tree, separators=(",", ":")).encode(), dtype=np.uint8)
    try:
        header = json.loads(json.dumps(_summary(classifier) | {"metadata": metadata or {}}, default=_plain))
    except (TypeError, ValueError) as error:
        raise InputError(f"the metadata cannot be saved as JSON: {error}") from error
    header["sha256"] = _digest(header, tensors)
    from safetensors.numpy import save as as_bytes

    content = as_bytes(tensors, {"luce": json.dumps(header, sort_keys=True)})
    try:
        with written_whole(path) as file:
            file.write(content)
    except OSError as error:
        raise LuceError(
            f"{os.fspath(path)}: the model cannot be written: {error.strerror}; nothing was left there: "
            "check permission and space, or choose another place"
        ) from error


def load(path: Path) -> Any:
    """Read a model file; what it predicts equals, bit for bit, what the saved model did.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    sklearn.pipeline.Pipeline, SoftmaxClassifier or SoftmaxClassifierCV
        What was saved.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, no model file of luce, or written by a newer luce.

    Warns
    -----
    UserWarning
        The model was saved with another version of scikit-learn than the one installed.
    """
    content = _read(path)
    name = os.fspath(path)
    header = _header(content, name)
    from safetensors import SafetensorError
    from safetensors.numpy import load as as_arrays

    try:
        tensors: dict[str, Array] = as_arrays(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{name} is damaged or cut short ({error}); copy it again, or fit again"
        ) from error
    if header.get("sha256") != _digest(header, tensors):
        raise ModelFileError(
            f"{name} is damaged: its content does not fit its checksum; copy it again, or fit again"
        )
    try:
        tree = json.loads(tensors.pop("tree").tobytes())
        model = decode(tree, [tensors[str(i)] for i in range(len(tensors))])
        _check(model)
    except (ModelFileError, LookupError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} is a broken model file: {error}") from error
    _compare_versions(header, name)
    return model


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what a model file says of itself, without rebuilding the model.

    Returns
    -------
    dict
        "format_version", "luce" and "scikit-learn" (versions), "classes", "n_features", "C", "gap", "sha256",
        and "metadata": what was given to `save`.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, no model file of luce, or written by a newer luce.
    """
    return _header(_read(path, only_header=True), os.fspath(path))


def _summary(classifier: Any) -> dict[str, Any]:
    import sklearn

    import luce

    return {
        "format_version": FORMAT_VERSION,
        "luce": luce.__version__,
        "scikit-learn": sklearn.__version__,
        "classes": [_plain(c) for c in classifier.classes_],
        "n_features": int(classifier.n_features_in_),
        "C": getattr(classifier, "C", None),
        "gap": getattr(classifier, "gap_", None),
    }


def _plain(value: Any) -> Any:
    """Return a value as one that JSON can hold, or fail as json.dumps wants it."""
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str | int | float | list | dict | None):
        return value
    raise TypeError(f"{type(value).__name__} is nothing that JSON can hold")


def _digest(header: dict[str, Any], tensors: dict[str, Array]) -> str:
    said = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def _read(path: Path, only_header: bool = False) -> bytes:
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ModelFileError(f"{name} is no plain file; give the path of a model that luce saved")
            start = file.read(8)
            if only_header:
                return start + file.read(min(int.from_bytes(start, "little"), MAX_HEADER))
            return start + file.read()
    except OSError as error:
        raise ModelFileError(f"{name}: the model cannot be read: {error.strerror}; check the path") from error


def _header(content: bytes, name: str) -> dict[str, Any]:
    """Return the header of a model file; refuse what is none and what is too new."""
    foreign = ModelFileError(f"{name} is no model file of luce; give one that luce fit or luce.save wrote")
    size = int.from_bytes(content[:8], "little")
    if len(content) < 9 or size > MAX_HEADER or content[8:9] != b"{":
        if content[:1] == b"\x80":
            raise ModelFileError(
                f"{name} is a pickle, which could run code; luce opens its own model files only"
            )
        raise foreign
    if len(content) < 8 + size:
        raise ModelFileError(f"{name} is cut short; copy it again, or fit again")
    try:
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["luce"])
        version = header["format_version"]
    except (LookupError, RecursionError, TypeError, ValueError):
        raise foreign from None
    if not isinstance(version, int) or version < 1:
        raise foreign
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{name} was written by luce {header.get('luce', '?')}, newer than this one (format {version}, "
            f"this luce reads {FORMAT_VERSION}): pip install --upgrade luce"
        )
    return dict(header)


def _classifier(model: Any) -> Any:
    return model.steps[-1][1] if hasattr(model, "steps") else model


def _check(model: Any) -> None:
    """Refuse a model whose weights do not fit its classes."""
    try:
        classifier = _classifier(model)
        n_classes, coef, intercept = len(classifier.classes_), classifier.coef_, classifier.intercept_
        rows = 1 if n_classes == 2 else n_classes
        sound = coef.shape == (rows, classifier.n_features_in_) and np.shape(intercept) in ((rows,), ())
        finite = np.isfinite(coef).all() and np.isfinite(intercept).all()
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(f"it holds no fitted classifier ({error})") from error
    if not sound or not finite:
        raise ModelFileError("the weights do not fit the classes, or are not finite")


def _compare_versions(header: dict[str, Any], name: str) -> None:
    import sklearn

    saved, installed = str(header.get("scikit-learn", "")), sklearn.__version__
    if saved.split(".")[:2] != installed.split(".")[:2]:
        warnings.warn(
            f"{name} was saved with scikit-learn {saved}, and {installed} is installed: "
            f"predictions may differ; install scikit-learn {saved}, or fit again",
            stacklevel=3,
        )
