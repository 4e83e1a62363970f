"""All samples, for fewer epochs."""

from __future__ import annotations

from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, PassesStrategy


@DOWNSAMPLING_STRATEGIES.register("FewerEpochs")
class FewerEpochs(PassesStrategy):
    """Train on all samples, for ``ratio/ratio_max`` of the epochs, rounded up to whole batches.

    A baseline for other strategies: the same number of samples trained on, all of them equally often. Where it is as
    accurate, choosing samples does not pay. The learning-rate schedule covers the shorter training.

    >>> FewerEpochs(ratio=50).plugin_name
    'FewerEpochs'
    """
