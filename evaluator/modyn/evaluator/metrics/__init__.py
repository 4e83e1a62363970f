"""Metrics: one module per metric; importing this package registers them."""

from modyn.evaluator.metrics.accuracy import Accuracy as Accuracy
from modyn.evaluator.metrics.balanced_accuracy import BalancedAccuracy as BalancedAccuracy
from modyn.evaluator.metrics.brier import Brier as Brier
from modyn.evaluator.metrics.calibration_error import CalibrationError as CalibrationError
from modyn.evaluator.metrics.f1 import F1Score as F1Score
from modyn.evaluator.metrics.log_loss import LogLoss as LogLoss
from modyn.evaluator.metrics.mean_absolute_error import MeanAbsoluteError as MeanAbsoluteError
from modyn.evaluator.metrics.mean_squared_error import MeanSquaredError as MeanSquaredError
from modyn.evaluator.metrics.pr_auc import PrAuc as PrAuc
from modyn.evaluator.metrics.precision import Precision as Precision
from modyn.evaluator.metrics.r2 import R2 as R2
from modyn.evaluator.metrics.recall import Recall as Recall
from modyn.evaluator.metrics.roc_auc import RocAuc as RocAuc
from modyn.evaluator.metrics.user import UserMetric as UserMetric
