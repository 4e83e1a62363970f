"""Importance sampling by loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Score
from modyn.trainer_server.downsampling.scores import asked
from modyn.trainer_server.downsampling.weighted import ImportanceSampling


@DOWNSAMPLING_STRATEGIES.register("Loss")
class Loss(ImportanceSampling):
    """Choose samples with probability in proportion to their loss, weighted so that the mean loss is unbiased.

    A sample with loss l is chosen with probability π = min(1, c · ((1 - floor) · l / Σl + floor / n)), c such that
    exactly the ratio is chosen, and its loss multiplied by chosen / (n · π): at most 1 / floor, and 1 on average. The
    loss stands for the norm of the gradient, which would give the lowest variance (Katharopoulos and Fleuret, "Not
    all samples are created equal: deep learning with importance sampling", ICML 2018). Needs losses of at least 0.

    >>> candidates = Candidates(np.zeros(4, dtype=np.int64), loss=np.array([0, 0, 0, 2], dtype=np.float32))
    >>> choice = Loss(ratio=50).choose(candidates, 2, np.random.default_rng(0))
    >>> 3 in choice.positions, choice.weights.tolist()  # the last is certain: 2 / (4 · 1); another: 2 / (4 · 1/3)
    (True, [1.5, 0.5])
    """

    @property
    def needs(self) -> tuple[Score, ...]:
        return (Score.LOSS,)

    @property
    def score_name(self) -> str:
        return "loss"

    def scores(self, candidates: Candidates) -> npt.NDArray[np.float64]:
        return asked(candidates.loss, Score.LOSS).astype(np.float64)
