"""The supervisor's first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pipelines",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("dataset", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.Column("resolved_yaml", sa.Text, nullable=False),
        sa.Column("replay_order", sa.Text, nullable=False),
        sa.Column("start_time", sa.BigInteger),
        sa.Column("stop_time", sa.BigInteger),
        sa.Column("start_key", sa.BigInteger),
        sa.Column("end_key", sa.BigInteger),
        sa.Column("maximum_triggers", sa.Integer),
        sa.Column("notices", sa.JSON, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("error", sa.Text),
        sa.Column("input_error", sa.Boolean),
        sa.Column("samples_seen", sa.BigInteger, nullable=False),
        sa.Column("first_timestamp", sa.BigInteger),
        sa.Column("last_timestamp", sa.BigInteger),
        sa.Column("cursor", sa.BigInteger),
        sa.Column("trigger_state", sa.JSON),
        sa.Column("ingest_seconds", sa.Float, nullable=False),
        sa.Column("trigger_seconds", sa.Float, nullable=False),
        sa.Column("evaluate_seconds", sa.Float, nullable=False),
        sa.Column("evaluate_reused_seconds", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "pipeline_triggers",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("trigger_index", sa.Integer, primary_key=True),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("new_samples", sa.BigInteger, nullable=False),
        sa.Column("samples", sa.BigInteger, nullable=False),
        sa.Column("unlabelled", sa.BigInteger, nullable=False),
        sa.Column("first_timestamp", sa.BigInteger),
        sa.Column("last_timestamp", sa.BigInteger),
        sa.Column("training_set", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("input_digest", sa.Text),
        sa.Column("samples_trained", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("final_loss", sa.Float(53)),
        sa.Column("reused", sa.Boolean, nullable=False),
        sa.Column("first_batch_ms", sa.Float),
        sa.Column("select_seconds", sa.Float, nullable=False),
        sa.Column("start_seconds", sa.Float, nullable=False),
        sa.Column("train_seconds", sa.Float, nullable=False),
        sa.Column("store_seconds", sa.Float, nullable=False),
        sa.Column("evaluate_seconds", sa.Float, nullable=False),
        sa.Column("total_seconds", sa.Float, nullable=False),
    )
    op.create_table(
        "evaluation_windows",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("start_time", sa.BigInteger, primary_key=True),
        sa.Column("end_time", sa.BigInteger, primary_key=True),
        sa.Column("anchor", sa.BigInteger, primary_key=True),
        sa.Column("samples", sa.BigInteger, nullable=False),
        sa.Column("unlabelled", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "evaluation_scores",
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("start_time", sa.BigInteger, primary_key=True),
        sa.Column("end_time", sa.BigInteger, primary_key=True),
        sa.Column("anchor", sa.BigInteger, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("value", sa.Float(53)),
    )
    op.create_table(
        "evaluation_failures",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("ix_evaluation_failures_pipeline_id", "evaluation_failures", ["pipeline_id"])
