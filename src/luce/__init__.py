"""luce: the softmax classifier, done to the end."""

__version__ = "0.1.0"
