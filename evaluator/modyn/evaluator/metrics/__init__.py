"""Metrics: one module per metric; importing this package registers them."""

from modyn.evaluator.metrics.accuracy import Accuracy as Accuracy
from modyn.evaluator.metrics.f1 import F1Score as F1Score
from modyn.evaluator.metrics.roc_auc import RocAuc as RocAuc
