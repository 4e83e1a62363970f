"""Windows from training to training."""

from __future__ import annotations

from modyn.core.plugins.evaluation import WINDOW_STRATEGIES, Window, WindowContext, WindowStrategy
from modyn.evaluator.windows.clipping import clipped


@WINDOW_STRATEGIES.register("BetweenTwoTriggersEvalStrategy")
class BetweenTwoTriggersEvalStrategy(WindowStrategy):
    """One window per trigger, from the first to the last second of its new data, and one for what came after the last
    trigger.

    As a rule the currently active model on the window of a trigger is that of the trigger before, and the currently
    trained model is its own. Late samples make windows overlap: a window begins with the earliest of its trigger's new
    samples and ends with the latest seen so far.

    >>> from modyn.core.plugins.evaluation import TrainedInterval
    >>> triggers = [TrainedInterval(0, 0, 29), TrainedInterval(1, 30, 59)]
    >>> windows = BetweenTwoTriggersEvalStrategy().windows(WindowContext(0, 99, triggers))
    >>> [(w.start, w.end) for w in windows]
    [(0, 30), (30, 60), (60, 100)]
    """

    def windows(self, context: WindowContext) -> list[Window]:
        spans: list[tuple[int | None, int | None]] = [
            (trigger.first_timestamp, trigger.last_timestamp + 1) for trigger in context.triggers
        ]
        spans.append((max((trigger.last_timestamp + 1 for trigger in context.triggers), default=None), None))
        found = {clipped(context, *span) for span in spans}
        return sorted((window for window in found if window is not None), key=lambda w: (w.start, w.end))
