# %% templates tags=["remove-input"]
from sklearn.datasets import load_digits

import luce
from luce.plot import TemplateDisplay

X, y = load_digits(return_X_y=True)
clf = luce.SoftmaxClassifier(C=0.05).fit(X / 16, y)
TemplateDisplay.from_estimator(clf, image_shape=(8, 8)).plot()
