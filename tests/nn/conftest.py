"""Without a GPU, Triton's kernels run in its interpreter, which is chosen when Triton is first imported."""

import os

import pytest
import torch

from luce.nn import functional

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True)
def never_whole(monkeypatch):
    """Stream however small the problem: on small ones are the tiles tested."""
    monkeypatch.setattr(functional, "WHOLE", 0)
    monkeypatch.setattr(functional, "WHOLE_IF_TWICE", 0)
