"""The selector's tables in the catalog: one row per trigger, one per training set."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

training_sets = sa.Table(
    "training_sets",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("has_weights", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),  # Unix seconds
    sa.Column("key_file", sa.String(64), nullable=False, server_default=""),  # digest of the file with keys and weights
    # Which labels belong to the set (see LabelsAsOf); version 0: those that samples were ingested with.
    sa.Column("label_time", sa.BigInteger),
    sa.Column("label_arrival", sa.BigInteger),
    sa.Column("label_version", sa.BigInteger, nullable=False, server_default="0"),
)

trigger_data = sa.Table(
    "trigger_data",
    metadata,
    sa.Column("pipeline_id", sa.String(64), primary_key=True),
    sa.Column("trigger_index", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("dataset", sa.String(200), nullable=False),
    sa.Column("new_data", sa.String(64), nullable=False),  # digest of the key file with the new data
    sa.Column("num_new", sa.BigInteger, nullable=False),
    sa.Column("num_unlabelled", sa.BigInteger, nullable=False),
    sa.Column("end_key", sa.BigInteger, nullable=False),  # one more than the largest key of the new data so far
    sa.Column("last_timestamp", sa.BigInteger),  # data clock
    sa.Column("selection", sa.JSON, nullable=False),  # the policy, every default filled in
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("input_digest", sa.String(64), nullable=False),
    sa.Column("training_set", sa.String(64), sa.ForeignKey("training_sets.digest"), nullable=False, index=True),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
