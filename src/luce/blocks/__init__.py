"""Samples that are not in this process's memory: their passes are sums over blocks of rows."""

from luce.blocks.samples import Samples, located

__all__ = ["Samples", "located"]
