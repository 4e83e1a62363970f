"""CRAIG: samples that stand for all, each with the number of those that it stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from modyn.core.arrow import Int64Array
from modyn.trainer_server.greedy.facility import facility_location
from modyn.trainer_server.greedy.features import Features
from modyn.trainer_server.greedy.similarity import DistanceSimilarity, Form, row_blocks


@dataclass(frozen=True, eq=False)
class Medoids:
    """What was chosen.

    Attributes:
        positions: ascending, int64 [k].
        sizes: how many samples each stands for, itself among them, int64 [k]; they add up to n, if any is chosen.
    """

    positions: Int64Array
    sizes: Int64Array


def craig(features: Features, groups: Iterable[tuple[Int64Array, int]], form: Form | None = None) -> Medoids:
    """Samples such that the gradient of each of the n is near to that of a chosen one.

    Mirzasoleiman, Bilmes, Leskovec: "Coresets for data-efficient training of machine learning models", ICML 2020.
    In each group, usually a class, the sum of the distances to the nearest chosen one is made small: greedy facility
    location over a constant minus the Euclidean distance. The weighted sum of the chosen gradients, by the number of
    samples of the group nearest to each, then differs from the sum of all by no more than that. Samples of groups
    without a budget count for the nearest of all that are chosen.

    >>> from modyn.trainer_server.greedy.features import DenseFeatures
    >>> gradients = DenseFeatures(np.array([[0], [1], [2], [10], [11]], dtype=np.float32))
    >>> medoids = craig(gradients, [(np.arange(5), 2)])
    >>> medoids.positions.tolist(), medoids.sizes.tolist()
    ([2, 3], [3, 2])

    Args:
        features: gradients of n samples.
        groups: positions of the samples of each group, and how many to choose of them; every sample in one group.
        form: see :func:`facility_location`.
    """
    owners = np.full(len(features), -1)
    chosen: list[Int64Array] = []
    for members, budget in groups:
        if budget > 0:
            cover = facility_location(DistanceSimilarity(features.take(members)), budget, form)
            picked = np.sort(members[cover.positions])
            owners[members] = np.where(cover.owners < 0, -1, members[cover.owners])
            _own(features, owners, members[cover.owners < 0], picked)
            chosen.append(picked)
    positions = np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
    if chosen:
        _own(features, owners, np.flatnonzero(owners < 0), positions)
    return Medoids(positions, np.bincount(owners[owners >= 0], minlength=len(features))[positions])


def _own(features: Features, owners: Int64Array, rows: Int64Array, chosen: Int64Array) -> None:
    """Gives some samples to the nearest of some that are chosen."""
    if not len(rows):
        return
    distance = DistanceSimilarity(features)
    for block in row_blocks(rows, len(chosen)):
        owners[block] = chosen[np.argmin(distance.distances(block, chosen), axis=1)]
