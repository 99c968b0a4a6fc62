"""Every pretrained network that the workflow may need, by name."""

from pgfl.nn.imagenet import IMAGENET
from pgfl.pose.estimators import ESTIMATORS
from pgfl.untrusted.obtain import Source

WEIGHTS: dict[str, Source] = IMAGENET | {
    name: estimator.weights for name, estimator in ESTIMATORS.items()
}
