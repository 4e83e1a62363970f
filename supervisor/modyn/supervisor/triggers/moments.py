"""Where several triggers that look at the same samples fire next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from modyn.core.plugins.triggers import Arrivals, Observer, Step, Trigger


class Moment(NamedTuple):
    """Where triggers fire next.

    Attributes:
        position: samples until then.
        steps: of every trigger, from before the first of these samples to exactly behind the last.
        fired: names of those that fire there; none if the samples are used up.
        ahead: further steps over the next sample that had to be made; they hold as long as the states stay.
    """

    position: int
    steps: dict[str, Step]
    fired: tuple[str, ...]
    ahead: Mapping[str, Step] = {}


@dataclass(frozen=True, eq=False)
class Stretch:
    """Samples, and triggers that have not seen them.

    A firing at a position may be due to the sample before it (an amount is complete) or to the one behind it (a
    boundary is passed). The former comes first, and triggers that fire for the same of the two reasons fire together:
    so it does not matter whether samples are shown one by one or at once.

    Attributes:
        triggers: in the order in which they are asked; each is shown no more than until the earliest firing so far.
        states: of all triggers.
        shown: at least one sample.
        known: the steps of some triggers over the first sample.
    """

    triggers: Mapping[str, Trigger]
    states: Mapping[str, Any]
    shown: Arrivals
    observe: Observer
    known: Mapping[str, Step]

    def next_moment(self) -> Moment:
        """The first firings, and all triggers brought exactly there."""
        steps: dict[str, Step] = {}
        until: dict[str, int] = {}
        first, end = None, len(self.shown)
        for name in self.triggers:
            until[name] = end
            steps[name] = step = self._look(name, end)
            if step.firing is not None and (first is None or step.firing.position < end):
                first, end = name, step.firing.position
        if first is None:
            return Moment(end, steps, ())
        for name, shown in until.items():
            if shown > end and name != first:  # too much: look again
                steps[name] = self._look(name, end)
        exact = [name for name, shown in until.items() if shown == end and name != first]
        together = tuple(name for name in exact if steps[name].firing is not None)
        if until[first] == end:
            return Moment(end, steps, (first, *together))  # it has not seen the sample behind
        ahead = {} if together else {name: self._step_ahead(name, steps[name], end) for name in exact}
        behind = tuple(name for name, step in ahead.items() if step.firing is not None and step.firing.position == 0)
        if not together and not behind:
            return Moment(end, steps, (first,), ahead)  # why it fired makes no difference
        before = self._look(first, end)
        if before.firing is not None:
            return Moment(end, steps, (first, *together), ahead)
        if together:  # it will fire once it is shown the sample behind again
            return Moment(end, {**steps, first: before}, together)
        for name in behind:
            steps[name] = _joined(steps[name], ahead.pop(name), 0)
        return Moment(end, steps, (first, *behind), ahead)

    def _look(self, name: str, end: int) -> Step:
        """Shows a trigger the first samples."""
        if end == 0:
            return Step(self.states[name])
        known = self.known.get(name)
        if known is None:
            return self.triggers[name].next_firing(self.states[name], self.shown.slice(0, end), self.observe)
        if end == 1 or known.firing is not None:
            return known
        rest = self.triggers[name].next_firing(known.state, self.shown.slice(1, end), self.observe)
        return _joined(known, rest, 1)

    def _step_ahead(self, name: str, seen: Step, end: int) -> Step:
        """Shows a trigger the sample behind the first ones that it has ``seen``."""
        if end == 0 and name in self.known:
            return self.known[name]
        return self.triggers[name].next_firing(seen.state, self.shown.slice(end, end + 1), self.observe)


def _joined(seen: Step, rest: Step, position: int) -> Step:
    """A step without a firing over ``position`` samples, and one from there on."""
    firing = rest.firing
    if firing is not None:
        firing = replace(firing, position=position + firing.position)
    return Step(rest.state, firing, seen.evaluations + rest.evaluations)
