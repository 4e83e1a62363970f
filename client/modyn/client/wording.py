"""Numbers and scores in words."""

from __future__ import annotations

from modyn.core.report import CompositeScore, IntervalPart

INSIGNIFICANT = 0.005
"""Without an interval, differences of means below this are called no difference; of losses, relative to them."""

MISSING = "–"


def number(value: float | None, digits: int = 4) -> str:
    """
    >>> number(0.74213), number(None)
    ('0.7421', '–')
    """
    return MISSING if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """
    >>> signed(0.74213), signed(-0.5)
    ('+0.7421', '-0.5000')
    """
    return MISSING if value is None else f"{value:+.{digits}f}"


def interval(part: IntervalPart | None) -> str:
    """
    >>> interval(IntervalPart(low=0.731, high=0.752, level=0.95)), interval(None)
    ('[0.731, 0.752]', '')
    """
    return "" if part is None else f"[{part.low:.3f}, {part.high:.3f}]"


def with_interval(value: float | None, part: IntervalPart | None) -> str:
    """
    >>> with_interval(0.74213, IntervalPart(low=0.731, high=0.752, level=0.95))
    '0.7421 [0.731, 0.752]'
    """
    return f"{number(value)} {interval(part)}".rstrip()


def readable(name: str) -> str:
    """A baseline's name in words."""
    return name.replace("_", " ")


def count(n: int, noun: str) -> str:
    """
    >>> count(1, "window"), count(1200, "window")
    ('1 window', '1,200 windows')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def interpretation(score: CompositeScore) -> str:
    """One honest sentence or two on a composite score."""
    active = score.currently_active
    if active is None and score.currently_trained is not None:
        return "Only the currently trained models were scored."
    if active is None:
        return (
            f"No window could be scored: {score.windows_without_model} had no trained model yet, "
            f"{score.windows_empty} had no labelled samples, and on {score.windows_undefined} the metric has no value."
        )
    counted = f"Mean over {count(score.windows_scored, 'window')} in which a model was active."
    best = best_baseline(score)
    if best is None:
        return counted
    name, value = best
    what = f"the best baseline without any model ({readable(name)}, {value:.4f})"
    paired = score.over_baselines.get(name)
    sign = 1 if score.greater_is_better else -1
    if paired is not None and paired.interval is not None:
        ends = sorted((sign * paired.interval.low, sign * paired.interval.high))
        gain, of_it = sign * paired.mean, f" [{ends[0]:.3f}, {ends[1]:.3f}]"
        significant = not ends[0] <= 0 <= ends[1]
    else:
        gain, of_it = sign * (active - value), ""
        significant = abs(gain) > INSIGNIFICANT * (1 if score.greater_is_better else abs(value))
    if not significant:
        why = f" (the difference is {gain:+.4f}{of_it})" if of_it else ""
        how = "not clearly" if gain > 0 and of_it else "no"
        return f"{counted} That is {how} better than {what}{why}: the figure shows no skill of the models."
    if gain > 0:
        return f"{counted} The pipeline beats {what} by {gain:.4f}{of_it}."
    behind = f"{-gain:.4f} below" if score.greater_is_better else f"{-gain:.4f} above"
    return (
        f"{counted} It stays {behind} {what}{of_it}: on this stream the figure must not be mistaken for skill, "
        "a rule without a model does better."
    )


def best_baseline(score: CompositeScore) -> tuple[str, float] | None:
    """Name and value of the best prediction without a model; None if none is known."""
    known = [(name, value) for name, value in score.baselines.items() if value is not None]
    if not known:
        return None
    return (max if score.greater_is_better else min)(known, key=lambda item: item[1])
