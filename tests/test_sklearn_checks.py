"""scikit-learn's own checks of estimators; none is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from luce import SoftmaxClassifier


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([SoftmaxClassifier(), SoftmaxClassifier(solver="lbfgs", C=0.1)])
def test_sklearn_check(estimator, check):
    check(estimator)
