"""Pictures of reports as matplotlib figures. matplotlib is loaded when the first one is drawn."""

from modyn.client.charts.composite import composite_figure, curves_figure
from modyn.client.charts.confusion import confusion_figure
from modyn.client.charts.heatmap import heatmap_figure
from modyn.client.charts.looks import trigger_figure
from modyn.client.charts.offsets import offsets_figure
from modyn.client.charts.pareto import pareto_figure
from modyn.client.charts.style import NARROW, WIDE, Size, Where
from modyn.client.charts.svg import inline_svg
from modyn.client.charts.timeline import timeline_figure

__all__ = [
    "NARROW",
    "WIDE",
    "Size",
    "Where",
    "composite_figure",
    "confusion_figure",
    "curves_figure",
    "heatmap_figure",
    "inline_svg",
    "offsets_figure",
    "pareto_figure",
    "timeline_figure",
    "trigger_figure",
]
