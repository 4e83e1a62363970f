"""Importance sampling by the norm of gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, Candidates, Score
from modyn.trainer_server.downsampling.gradients import finite_scores
from modyn.trainer_server.downsampling.weighted import ImportanceSampling


@DOWNSAMPLING_STRATEGIES.register("GradNorm")
class GradNorm(ImportanceSampling):
    """Choose samples with probability in proportion to the norm of their gradient, weighted so that the mean loss is
    unbiased.

    As ``Loss``, with the Euclidean norm of the gradient of a sample's loss with respect to the model's outputs, which
    bounds that of the whole gradient from above, up to a factor that all samples share (Katharopoulos and Fleuret,
    "Not all samples are created equal: deep learning with importance sampling", ICML 2018). Sampling in proportion to
    the norm of the whole gradient has the lowest variance (Zhao and Zhang, "Stochastic optimization with importance
    sampling for regularized loss minimization", ICML 2015).

    >>> gradients = np.array([[3, 4], [0, 0], [0, 0]], dtype=np.float32)
    >>> candidates = Candidates(np.zeros(3, dtype=np.int64), gradients=gradients)
    >>> GradNorm(ratio=50).scores(candidates).tolist()
    [5.0, 0.0, 0.0]
    """

    @property
    def needs(self) -> tuple[Score, ...]:
        return (Score.GRADIENTS,)

    @property
    def score_name(self) -> str:
        return "norm of a gradient"

    def scores(self, candidates: Candidates) -> npt.NDArray[np.float64]:
        gradients = finite_scores(candidates.gradients, Score.GRADIENTS)
        squares = np.einsum("ij,ij->i", gradients, gradients, dtype=np.float64)
        return np.asarray(np.sqrt(squares), dtype=np.float64)
