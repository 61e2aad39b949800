"""The compiled kernels, where they could be built."""
