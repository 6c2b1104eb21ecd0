"""Data of the small experiments: the 2-D Gaussian mixture and scikit-learn's digits."""

from disback_plugin.data.dataset import DataSet
from disback_plugin.data.digits import digits_dataset
from disback_plugin.data.mixture import GaussianMixture, mixture_dataset, random_mixture

__all__ = ["DataSet", "GaussianMixture", "digits_dataset", "mixture_dataset", "random_mixture"]
