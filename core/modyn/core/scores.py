"""Names of scores: a metric, on all samples or on one value of a column, over all classes or for one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class ScoreName:
    """What a score is of.

    >>> str(ScoreName("F1-macro", slice="region=NSW", label=3))
    'F1-macro[region=NSW]#3'

    Attributes:
        metric: result name of the metric.
        slice: ``column=value`` of the samples it is restricted to; empty: all.
        label: the class it is about; None: all of them together.
    """

    metric: str
    slice: str = ""
    label: int | None = None

    def __str__(self) -> str:
        part = f"[{self.slice}]" if self.slice else ""
        return f"{self.metric}{part}" + ("" if self.label is None else f"#{self.label}")

    @property
    def is_whole(self) -> bool:
        """Whether it is the metric itself: of all samples and classes."""
        return not self.slice and self.label is None

    @staticmethod
    def parse(text: str) -> ScoreName:
        """The inverse of ``str``.

        >>> ScoreName.parse("F1-macro[region=A]B]#3")
        ScoreName(metric='F1-macro', slice='region=A]B', label=3)
        >>> ScoreName.parse("Accuracy").is_whole
        True
        """
        label: int | None = None
        head, mark, tail = text.rpartition("#")
        if mark and tail.removeprefix("-").isdecimal():
            text, label = head, int(tail)
        metric, bracket, rest = text.partition("[")
        return ScoreName(metric, rest.removesuffix("]") if bracket else "", label)
