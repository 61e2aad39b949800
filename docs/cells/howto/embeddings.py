# %% data
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import luce

rng = np.random.default_rng(0)
X, y = load_digits(return_X_y=True)
Z = np.maximum(0, X @ rng.standard_normal((64, 512)) / 64).astype(np.float32)  # stands for your embeddings
Z, Z_test, y, y_test = train_test_split(Z, y, test_size=0.5, random_state=0, stratify=y)

# %% probe
probe = luce.SoftmaxClassifierCV(np.logspace(-4, 2, 7), cv="loo", scoring="neg_log_loss").fit(Z, y)
print(
    f"C = {probe.C_:g}; held out: {np.mean(probe.predict(Z_test) == y_test):.3f}; proven to {probe.gap_:.0e}"
)

# %% plot
from luce.plot import PathDisplay

PathDisplay.from_estimator(probe).plot()

# %% file
np.savez("embeddings.npz", X=Z, y=y)
# !luce fit embeddings.npz --C 0.1 -o probe.luce
