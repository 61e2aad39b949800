"""The passes over X, compiled where the extension loads and pure NumPy where it does not."""

from luce.loss.passes import class_sums, divergence, gram, hessian, hessian_product, value_and_gradient

__all__ = ["class_sums", "divergence", "gram", "hessian", "hessian_product", "value_and_gradient"]
