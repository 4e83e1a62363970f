"""What a run cost, one number a line, for files and terminals."""

from __future__ import annotations

from modyn.client.wording import number
from modyn.core.report import Report


def failed_at_once(report: Report) -> bool:
    """Whether it failed before there was a model, so that there is nothing to count."""
    return report.pipeline.error is not None and all(trigger.error is not None for trigger in report.triggers)


def cost_rows(report: Report) -> list[tuple[str, str]]:
    """Names and amounts; a part that earlier runs paid for is marked as reused."""
    cost, fixed = report.cost, report.fixed_cost
    rows = [
        ("trainings", f"{cost.trainings:,}{_reused(cost.trainings_reused)}"),
        ("samples trained (passes)", f"{cost.samples_trained:,}"),
        ("training", f"{cost.train_seconds:.2f} s{_reused(cost.train_seconds_reused, ' s')}"),
    ]
    if cost.gpu_seconds:
        rows.append(("GPUs held", f"{cost.gpu_seconds:.2f} s"))
    rows += [
        ("start of jobs", f"{cost.start_seconds:.2f} s"),
        ("storing models", f"{cost.store_seconds:.2f} s"),
        ("selection", f"{cost.select_seconds:.2f} s"),
        ("triggering policy", f"{cost.trigger_seconds:.2f} s"),
    ]
    if cost.trigger_samples_embedded or cost.trigger_samples_predicted:
        shown = f"{cost.trigger_samples_embedded:,} embedded, {cost.trigger_samples_predicted:,} predicted"
        rows.append(("samples shown to models for it", shown))
    if cost.samples_scored_for_training:
        rows.append(("samples scored for downsampling", f"{cost.samples_scored_for_training:,}"))
    rows += [
        ("evaluation", f"{cost.evaluate_seconds:.2f} s{_reused(cost.evaluate_seconds_reused, ' s')}"),
        ("samples scored", f"{cost.samples_scored:,}{_reused(cost.samples_scored_reused)}"),
        ("read from storage", readable_bytes(cost.bytes_read)),
        ("models in storage", readable_bytes(cost.model_bytes)),
        ("ingest", f"{cost.ingest_seconds:.2f} s"),
        ("everything else", f"{fixed.overhead_seconds:.2f} s beyond training and evaluation"),
        ("firing to first batch, median", f"{number(fixed.first_batch_ms_median, 0)} ms"),
        ("wall time", f"{cost.wall_seconds:.2f} s"),
    ]
    return rows


def readable_bytes(n: int) -> str:
    """
    >>> readable_bytes(512), readable_bytes(3 << 20)
    ('512 B', '3.0 MiB')
    """
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{n} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _reused(amount: float, unit: str = "") -> str:
    """
    >>> _reused(0), _reused(3), _reused(0.5, " s")
    ('', ' (3 reused)', ' (0.50 s reused)')
    """
    if not amount:
        return ""
    return f" ({amount:,.2f}{unit} reused)" if unit else f" ({amount:,} reused)"
