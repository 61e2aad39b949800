"""One page that shows a fitted model and how well it does: :func:`write` (extra ``report``).

The page is a single HTML file that needs no network. Its text comes from the data, so all of it is escaped,
and a content policy lets no script run but the page's own, named by its hash.
"""

from __future__ import annotations

import os
from typing import Any

from luce.errors import MissingExtraError
from luce.files import written_whole
from luce.report.subject import Subject, as_dataset

__all__ = ["Subject", "render", "write"]


def write(
    model: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    name: str = "data",
    unseen: bool | None = None,
    image_shape: tuple[int, ...] | None = None,
    along_C: Any = None,
) -> None:
    """Measure a fitted model on X and y and write the page.

    Parameters
    ----------
    model : fitted classifier or pipeline
        A :class:`luce.SoftmaxClassifier`, a :class:`luce.SoftmaxClassifierCV` (its choice of C is shown), or
        a scikit-learn Pipeline that ends in one.
    X : array, sparse array or pandas.DataFrame of N rows
        What the model predicts from.
    y : array (N,)
        Labels.
    path : str or path
        Of the HTML file; replaced as a whole or, after an error, not at all.
    name : str
        What the data are called on the page.
    unseen : bool, optional
        Whether the rows are none of those the model was fitted on; the page says so, or that it is not known.
    image_shape : (H, W) or (H, W, 3), optional
        Of images that are rows of X, to show them and the weights as pictures.
    along_C : SoftmaxPath or SoftmaxClassifierCV, optional
        A path of C to show beside a model that holds none.

    Raises
    ------
    MissingExtraError
        Matplotlib or Jinja2 is not installed.
    InputError
        X and y do not fit the model or each other.

    Examples
    --------
    >>> import luce, luce.report
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    >>> page = getfixture("tmp_path") / "iris.html"
    >>> luce.report.write(luce.SoftmaxClassifier().fit(X, y), X_test, y_test, page, name="iris", unseen=True)
    >>> page.read_text()[:15]
    '<!DOCTYPE html>'
    """
    data = as_dataset(X, y, name, image_shape)
    page = render(Subject(model, data, unseen=unseen, along_C=along_C))
    with written_whole(path) as file:
        file.write(page.encode())


def render(subject: Subject) -> str:
    """Return the page as HTML.

    Raises
    ------
    MissingExtraError
        Matplotlib or Jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("a report", "report") from error
    from luce.report.page import page

    return page(subject)
