"""Window strategies: one module per strategy; importing this package registers them."""

from modyn.evaluator.windows.between import BetweenTwoTriggersEvalStrategy as BetweenTwoTriggersEvalStrategy
from modyn.evaluator.windows.offset import OffsetEvalStrategy as OffsetEvalStrategy
from modyn.evaluator.windows.periodic import PeriodicEvalStrategy as PeriodicEvalStrategy
from modyn.evaluator.windows.slicing import SlicingEvalStrategy as SlicingEvalStrategy
from modyn.evaluator.windows.static import StaticEvalStrategy as StaticEvalStrategy
