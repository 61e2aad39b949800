"""Samples that are not in this process's memory: their passes are sums over blocks of rows."""

from luce.blocks.apply import applied, in_blocks
from luce.blocks.samples import Samples, in_tensors, is_tensor, located, on_host

__all__ = ["Samples", "applied", "in_blocks", "in_tensors", "is_tensor", "located", "on_host"]
