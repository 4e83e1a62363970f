"""The evaluator's tables."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # Of everything a prediction depends on but the sample itself.
    sa.Column("input_digest", sa.String(64), nullable=False),
    sa.Column("model", sa.String(64), nullable=False),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("first_key", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),
    # Of the segments under [first_key, end_key) when the samples were read.
    sa.Column("content_digest", sa.String(64), nullable=False),
    # Of the list of keys, in order.
    sa.Column("coverage", sa.String(64), nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("has_scores", sa.Boolean, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("file", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.UniqueConstraint("input_digest", "coverage", "content_digest", "has_scores", name="outcomes_identity"),
    sa.Index("outcomes_file", "file"),
)

# Whose costs contain what making some predictions took: those who made them, and those who used them later.
paid = sa.Table(
    "paid",
    metadata,
    sa.Column("file", sa.String(64), primary_key=True),
    sa.Column("model", sa.String(64), primary_key=True),
    sa.Column("pipeline_id", sa.String(200), primary_key=True),
    # Of the predictions of the model in the file, at most all.
    sa.Column("num_samples", sa.BigInteger, nullable=False),
)
