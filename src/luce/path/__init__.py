"""Fits for many strengths of the penalty at the price of a few: the path, and the choice among its points."""

from luce.path.cv import SoftmaxClassifierCV
from luce.path.grid import SoftmaxPath, softmax_path

__all__ = ["SoftmaxClassifierCV", "SoftmaxPath", "softmax_path"]
