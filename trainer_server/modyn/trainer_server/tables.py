"""The trainer server's tables."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

trainings = sa.Table(
    "trainings",
    metadata,
    sa.Column("input_digest", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(64), nullable=False, index=True),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("training_set", sa.String(64), nullable=False),
    sa.Column("initial_model", sa.String(64)),
    sa.Column("pipeline_id", sa.String(200), nullable=False),
    sa.Column("trigger_index", sa.BigInteger, nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("samples_trained", sa.BigInteger, nullable=False),
    sa.Column("batches", sa.BigInteger, nullable=False),
    sa.Column("epochs", sa.BigInteger, nullable=False),
    sa.Column("train_seconds", sa.Double, nullable=False),
    sa.Column("store_seconds", sa.Double, nullable=False),
    sa.Column("job_seconds", sa.Double, nullable=False),
    sa.Column("epoch_losses", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("downsampling", sa.JSON(none_as_null=True)),  # a DownsamplingResult
    sa.Column("numbers", sa.JSON(none_as_null=True)),  # a TrainResult; null: only what stands in the other columns
)

# Lineage: every training that ended well, and every pipeline that took its result. Rows are never replaced.
lineage = sa.Table(
    "training_lineage",
    metadata,
    sa.Column("pipeline_id", sa.String(200), primary_key=True),
    sa.Column("trigger_index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("training_set", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("initial_model", sa.String(64)),
    sa.Column("reused", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),  # Unix seconds
    sa.Column("trained", sa.String(64)),  # digest of sample columns: what was really trained; null: the training set
    sa.Column("numbers", sa.JSON(none_as_null=True)),  # a TrainResult; null: reused
    # Digests of auxiliary models: from an earlier trigger, and for a later one; null: none.
    sa.Column("auxiliary_used", sa.JSON(none_as_null=True)),
    sa.Column("auxiliary_left", sa.JSON(none_as_null=True)),
    sa.Index("ix_training_lineage_training_set", "training_set"),
)
