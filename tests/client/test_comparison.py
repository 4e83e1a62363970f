from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from modyn.client.comparison import Comparison, compare
from modyn.client.comparison_tables import TABLES, comparison_tables
from modyn.client.comparison_text import print_comparison
from modyn.core.errors import InvalidInputError
from modyn.core.report import EvaluationPart, MetricPart, Report
from tests.client.reports import composite, report, window

WHERE = ("weekly", "d", "Accuracy")


def run(
    scores: list[float | None],
    *,
    name: str = "demo",
    seed: int = 0,
    seconds: float = 1.0,
    greater_is_better: bool = True,
) -> Report:
    """A run with one window for each score."""
    score = composite(0.1, majority_class=0.5).model_copy(update={"greater_is_better": greater_is_better})
    windows = [window(index, value, majority_class=0.5) for index, value in enumerate(scores)]
    found = report(name=name, windows=windows, score=score)
    cost = found.cost.model_copy(update={"train_seconds": seconds})
    return found.model_copy(update={"run": found.run.model_copy(update={"seed": seed}), "cost": cost})


def shown(comparison: Comparison, width: int = 80) -> str:
    out = io.StringIO()
    print_comparison(comparison, Console(file=out, width=width, highlight=False))
    return out.getvalue()


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.floats(0, 1))] * 3), max_size=12))
def test_means_are_over_windows_where_all_runs_have_an_active_model(
    rows: list[tuple[float | None, float | None, float | None]],
) -> None:
    comparison = compare([run([row[which] for row in rows]) for which in range(3)])
    score = comparison.score(WHERE)
    common = [row for row in rows if None not in row]
    assert score.num_common == len(common)
    assert score.intervals == [None] * 3  # too few windows
    if not common:
        assert (score.common, score.best, score.to_best) == ([None] * 3, None, [None] * 3)
        return
    means = np.mean(np.array(common, dtype=np.float64), axis=0)
    assert score.common == pytest.approx(means.tolist())
    assert score.common_time_weighted == pytest.approx(means.tolist())  # all as long
    best = score.best
    assert best is not None
    assert means[best] == means.max()
    for index, difference in enumerate(score.to_best):
        if index == best:
            assert difference is None
        else:
            assert difference is not None
            assert difference.mean == pytest.approx(means[index] - means[best])
            assert difference.windows == len(common)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=7), st.booleans())
def test_a_run_is_optimal_if_no_other_beats_it(points: list[tuple[int, int]], greater: bool) -> None:
    comparison = compare([run([float(s)], seconds=c, greater_is_better=greater) for c, s in points])
    sign = 1 if greater else -1

    def beaten(c: int, s: int) -> bool:
        return any(
            other_c <= c and sign * other_s >= sign * s and (other_c < c or other_s != s) for other_c, other_s in points
        )

    found = comparison.points(WHERE, "train_seconds")
    assert [(point.cost, point.score, point.optimal) for point in found] == [
        (c, s, not beaten(c, s)) for c, s in points
    ]
    with pytest.raises(InvalidInputError, match="cost 'pigs' is not known; expected one of train_seconds"):
        comparison.points(WHERE, "pigs")


def test_of_losses_the_smallest_is_best_and_differences_keep_their_sign() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.4, 40)
    comparison = compare(
        [run((base + 0.1).tolist(), greater_is_better=False), run(base.tolist(), greater_is_better=False)], reference=0
    )
    score = comparison.score()
    assert score.best == 1
    assert score.intervals[0] is not None
    assert score.intervals[0].low < base.mean() + 0.1 < score.intervals[0].high
    (worse, _) = score.to_best
    assert worse is not None
    assert worse.mean == pytest.approx(0.1)
    assert "lower is better" in shown(comparison)


def test_runs_that_differ_in_their_seed_alone_are_averaged() -> None:
    yaml = "pipeline: {name: NAME}\ntraining: {seed: SEED, batch_size: SIZE}\n"
    seeds, sizes = (0, 1, 2, 2, 0), (32, 32, 32, 32, 64)
    means = (0.5, 0.6, 0.7, 0.7, 0.9)
    comparison = compare(
        [run([mean] * 3, seed=seed) for mean, seed in zip(means, seeds, strict=True)],
        yamls=[
            yaml.replace("NAME", str(index)).replace("SEED", str(seed)).replace("SIZE", str(size))
            for index, (seed, size) in enumerate(zip(seeds, sizes, strict=True))
        ],
    )
    (group,) = comparison.groups
    assert (group.runs, group.seeds) == ((0, 1, 2), (0, 1, 2)), "each seed once"
    (found,) = comparison.score().over_seeds
    assert found.mean == pytest.approx(0.6)
    assert found.interval is not None
    # Student's t with two degrees of freedom: 4.3027 standard errors.
    assert found.interval.high - found.mean == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-3)
    assert "Mean over 3 seeds" in shown(comparison)


def test_a_reader_is_told_what_speaks_against_the_comparison() -> None:
    def evaluated(digest: str, latency: str, data: str, status: str) -> Report:
        found = run([0.5, 0.5])
        part = EvaluationPart(
            handlers=[],
            metrics=[MetricPart(dataset="d", name="Accuracy", digest=digest, greater_is_better=True)],
            training_latency=latency,
            labels="newest",
            label_delay=None,
            confidence=0.95,
        )
        return found.model_copy(
            update={
                "evaluation": part,
                "windows": [w.model_copy(update={"data_digest": data}) for w in found.windows],
                "pipeline": found.pipeline.model_copy(update={"status": status}),
            }
        )

    alike = compare([evaluated("a", "zero", "x", "completed"), evaluated("a", "zero", "x", "completed")])
    assert alike.notices == []
    notices = "\n".join(
        compare([evaluated("a", "zero", "x", "completed"), evaluated("b", "measured", "y", "failed")]).notices
    )
    for expected in (
        "is failed",
        "evaluation.training_latency",
        "Accuracy on d is not configured alike",
        "2 windows of d",
    ):
        assert expected in notices


def test_handlers_of_one_run_may_compute_a_metric_differently() -> None:
    metrics = [MetricPart(dataset="d", name="ECE", digest=digest, greater_is_better=False) for digest in "ab"]
    part = EvaluationPart(
        handlers=[], metrics=metrics, training_latency="zero", labels="newest", label_delay=None, confidence=None
    )
    both = run([0.5]).model_copy(update={"evaluation": part})
    assert not any("configured alike" in notice for notice in compare([both, both]).notices)


def test_metrics_not_shared_are_left_out() -> None:
    other = report().model_copy(update={"composite": {}})
    comparison = compare([report(), other])
    assert comparison.scores == []
    assert "cannot be compared" in shown(comparison)
    with pytest.raises(InvalidInputError, match="do not share"):
        comparison.score()
    with pytest.raises(InvalidInputError, match="at least two"):
        compare([report()])


def test_six_runs_fit_into_80_columns_and_scores_can_be_chosen() -> None:
    random = np.random.default_rng(1)
    scores = composite(0.7, majority_class=0.5)
    runs = []
    for index in range(6):
        found = run(random.uniform(0.6, 0.8, 30).tolist(), name=f"policy with a rather long name {index}")
        parts = {"Accuracy": scores, "Accuracy#1": scores, "F1-macro": scores}
        runs.append(found.model_copy(update={"composite": {"weekly": {"d": parts}}}))
    comparison = compare(runs, reference=2)
    text = shown(comparison)
    assert max(len(line) for line in text.splitlines() if line.startswith(" ")) <= 80, "tables; sentences wrap"
    assert "1 score of slices and single classes" in text
    assert "There is no window in which every run has an active model" in text  # the windows have no F1
    assert [score.name for score in comparison.only(metric="Accuracy").scores] == [
        "weekly/d/Accuracy",
        "weekly/d/Accuracy#1",
    ]
    with pytest.raises(InvalidInputError, match=r"\*/\*/RocAuc; they share weekly/d/Accuracy"):
        comparison.only(metric="RocAuc")


def test_the_same_as_tables() -> None:
    comparison = compare([run([0.5, 0.7, None]), run([0.6, 0.9, 1.0])], reference=0)
    tables = comparison_tables(comparison)
    assert {name: table.num_rows for name, table in tables.items()} == {
        "runs": 2, "scores": 2, "windows": 4, "pareto": 8, "seeds": 0
    }  # fmt: skip
    for name, table in tables.items():
        assert table.schema.equals(TABLES[name].schema)
    scores = tables["scores"].to_pylist()
    assert [row["best"] for row in scores] == [False, True]
    assert [row["to_best"] for row in scores] == [pytest.approx(-0.15), None]
    assert [row["to_reference"] for row in scores] == [None, pytest.approx(0.15)]
