"""What belongs to scores beside their value; handlers added later; what trainings and evaluations took."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    _add("pipelines", sa.BigInteger, "evaluate_bytes", "evaluate_samples", "evaluate_samples_reused")
    _add("pipelines", sa.Float, "evaluate_later_seconds")
    op.add_column("pipelines", sa.Column("evaluated_extents", sa.JSON))

    _add("pipeline_triggers", sa.BigInteger, "bytes_read", "model_bytes")
    _add("pipeline_triggers", sa.Float, "gpu_seconds")
    op.add_column("pipeline_triggers", sa.Column("training_seconds", sa.Float))
    op.add_column("pipeline_triggers", sa.Column("error", sa.Text))

    for name in ("certification", "data_digest"):
        op.add_column("evaluation_windows", sa.Column(name, sa.Text))
    op.add_column("evaluation_windows", sa.Column("baselines", sa.Boolean, nullable=False, server_default=sa.false()))
    for name in ("low", "high"):
        op.add_column("evaluation_scores", sa.Column(name, sa.Float(53)))

    for name in ("handler", "dataset", "metric"):
        op.add_column("evaluation_failures", sa.Column(name, sa.Text))
    op.add_column("evaluation_failures", sa.Column("trigger_index", sa.Integer))
    for name in ("start_time", "end_time"):
        op.add_column("evaluation_failures", sa.Column(name, sa.BigInteger))

    op.create_table(
        "evaluation_confusions",
        *_window_key(),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("counts", sa.JSON, nullable=False),
    )
    op.create_table(
        "evaluation_offsets",
        *_window_key(),
        sa.Column("trigger_index", sa.Integer, primary_key=True),
        sa.Column("offset", sa.Text, primary_key=True),
    )
    op.create_table(
        "evaluation_metrics",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("greater_is_better", sa.Boolean, nullable=False),
    )
    op.create_table(
        "evaluation_handlers",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("config", "datasets", "section", "extents")),
        sa.Column("created_at", sa.Float, nullable=False),
    )


def _add(table: str, kind: type[sa.types.TypeEngine[Any]], *names: str) -> None:
    for name in names:
        op.add_column(table, sa.Column(name, kind, nullable=False, server_default="0"))


def _window_key() -> list[sa.Column[Any]]:
    return [
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("handler", "dataset")),
        *(sa.Column(name, sa.BigInteger, primary_key=True) for name in ("start_time", "end_time", "anchor")),
    ]
