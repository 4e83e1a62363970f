"""A metric that is installed, as far as servers are concerned."""

from __future__ import annotations

from modyn.core.plugins.evaluation import Outcomes


def always(outcomes: Outcomes) -> float:
    return 0.5
