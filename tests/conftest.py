"""Shared by all tests."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before SciPy is imported; scikit-learn's checks ask for it
