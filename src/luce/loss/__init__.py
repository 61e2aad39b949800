"""The softmax loss and its gradient: loops, matrices, tiles; the same signature and the same numbers."""
