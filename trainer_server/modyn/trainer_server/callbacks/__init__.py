"""The callbacks of trainings: one import line each."""

from modyn.trainer_server.callbacks.exponential_moving_average import ExponentialMovingAverage
from modyn.trainer_server.callbacks.freeze_layers import FreezeLayers

__all__ = ["ExponentialMovingAverage", "FreezeLayers"]
