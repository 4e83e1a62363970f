"""The drift metrics: one import line each."""

from modyn.supervisor.drift.metrics.classifier import ClassifierTwoSample
from modyn.supervisor.drift.metrics.component_ratio import ComponentRatio
from modyn.supervisor.drift.metrics.cramer_von_mises import CramerVonMises
from modyn.supervisor.drift.metrics.cross_mmd import CrossMMD
from modyn.supervisor.drift.metrics.hellinger import Hellinger
from modyn.supervisor.drift.metrics.kolmogorov_smirnov import KolmogorovSmirnov
from modyn.supervisor.drift.metrics.mean_distance import MeanDistance
from modyn.supervisor.drift.metrics.mmd import MMD

__all__ = [
    "MMD",
    "ClassifierTwoSample",
    "ComponentRatio",
    "CramerVonMises",
    "CrossMMD",
    "Hellinger",
    "KolmogorovSmirnov",
    "MeanDistance",
]
