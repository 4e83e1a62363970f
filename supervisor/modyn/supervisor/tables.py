"""The supervisor's tables: pipelines, their triggers, and what evaluations said. Times are Unix seconds."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()

PIPELINES = sa.Table(
    "pipelines",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("dataset", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),  # nothing was trained
    sa.Column("resolved_yaml", sa.Text, nullable=False),
    sa.Column("replay_order", sa.Text, nullable=False),  # event | arrival
    sa.Column("start_time", sa.BigInteger),
    sa.Column("stop_time", sa.BigInteger),
    sa.Column("start_key", sa.BigInteger),
    sa.Column("end_key", sa.BigInteger),
    sa.Column("maximum_triggers", sa.Integer),
    sa.Column("baseline_of", sa.Integer),  # pipeline beside which it was trained
    sa.Column("baseline", sa.Text),  # uniform | fewer_epochs
    sa.Column("code_root", sa.Text),  # folder of its own code
    sa.Column("notices", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
    sa.Column("error", sa.Text),
    sa.Column("input_error", sa.Boolean),
    # The journal of the loop: where it is, and what its trigger remembers.
    sa.Column("samples_seen", sa.BigInteger, nullable=False),
    sa.Column("first_timestamp", sa.BigInteger),
    sa.Column("last_timestamp", sa.BigInteger),
    sa.Column("cursor", sa.BigInteger),
    sa.Column("trigger_state", sa.JSON),
    sa.Column("ingest_seconds", sa.Float, nullable=False),
    sa.Column("trigger_seconds", sa.Float, nullable=False),
    sa.Column("trigger_embedded", sa.BigInteger, nullable=False),  # samples shown to models for the trigger
    sa.Column("trigger_predicted", sa.BigInteger, nullable=False),
    sa.Column("evaluate_seconds", sa.Float, nullable=False),
    sa.Column("evaluate_reused_seconds", sa.Float, nullable=False),
    sa.Column("evaluate_later_seconds", sa.Float, nullable=False),  # of evaluate_seconds, when it had ended
    sa.Column("evaluate_bytes", sa.BigInteger, nullable=False),
    sa.Column("evaluate_samples", sa.BigInteger, nullable=False),  # predictions, reused ones included
    sa.Column("evaluate_samples_reused", sa.BigInteger, nullable=False),
    sa.Column("evaluated_extents", sa.JSON),  # by evaluation dataset: how much of it is looked at
    sqlite_autoincrement=True,  # the id of a deleted pipeline is never given again
)

TRIGGERS = sa.Table(
    "pipeline_triggers",
    METADATA,
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
    # What downsampling did; of the original training if it was reused.
    sa.Column("downsampling", sa.Text),  # name of the strategy
    sa.Column("trained", sa.Text),  # digest of the keys and weights that were trained
    sa.Column("samples_offered", sa.BigInteger, nullable=False),
    sa.Column("samples_scored", sa.BigInteger, nullable=False),
    sa.Column("scores_reused", sa.BigInteger, nullable=False),
    sa.Column("auxiliary_samples", sa.BigInteger, nullable=False),
    sa.Column("score_seconds", sa.Float, nullable=False),
    sa.Column("choose_seconds", sa.Float, nullable=False),
    sa.Column("auxiliary_seconds", sa.Float, nullable=False),
    # What the training took; of the original training if it was reused.
    sa.Column("training_seconds", sa.Float),  # from the request to the stored model
    sa.Column("gpu_seconds", sa.Float, nullable=False),
    sa.Column("bytes_read", sa.BigInteger, nullable=False),
    sa.Column("model_bytes", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text),  # why it failed
)

EVALUATIONS = sa.Table(
    "trigger_evaluations",
    METADATA,
    sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),  # 0, 1, 2 …
    sa.Column("trigger_index", sa.Integer),  # of the trigger that it fired
    sa.Column("first_timestamp", sa.BigInteger, nullable=False),
    sa.Column("last_timestamp", sa.BigInteger, nullable=False),
    sa.Column("num_samples", sa.BigInteger, nullable=False),
    sa.Column("decision", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("findings", sa.JSON, nullable=False),  # few numbers each, read only together
    sa.Column("seconds", sa.Float, nullable=False),
)


def _of_window(name: str, *columns: sa.Column[Any]) -> sa.Table:
    """A table with rows of windows: of a handler on a dataset, [start_time, end_time)."""
    return sa.Table(
        name,
        METADATA,
        sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
        sa.Column("handler", sa.Text, primary_key=True),
        sa.Column("dataset", sa.Text, primary_key=True),
        sa.Column("start_time", sa.BigInteger, primary_key=True),
        sa.Column("end_time", sa.BigInteger, primary_key=True),
        sa.Column("anchor", sa.BigInteger, primary_key=True),
        *columns,
    )


WINDOWS = _of_window(
    "evaluation_windows",
    sa.Column("samples", sa.BigInteger, nullable=False),
    sa.Column("unlabelled", sa.BigInteger, nullable=False),
    sa.Column("certification", sa.Text),  # certified | cross_validation
    sa.Column("data_digest", sa.Text),
    sa.Column("baselines", sa.Boolean, nullable=False),  # all of them were scored
)

SCORES = _of_window(
    "evaluation_scores",
    sa.Column("subject", sa.Text, primary_key=True),  # trigger:<index> or baseline:<name>
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("value", sa.Float(53)),
    sa.Column("low", sa.Float(53)),  # confidence interval
    sa.Column("high", sa.Float(53)),
)

CONFUSIONS = _of_window(
    "evaluation_confusions",
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("counts", sa.JSON, nullable=False),  # [label, prediction, count], read only together
)

OFFSETS = _of_window(
    "evaluation_offsets",
    sa.Column("trigger_index", sa.Integer, primary_key=True),  # to whose model the window belongs
    sa.Column("offset", sa.Text, primary_key=True),  # such as +1w
)

METRICS = sa.Table(
    "evaluation_metrics",
    METADATA,
    sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
    sa.Column("handler", sa.Text, primary_key=True),
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("greater_is_better", sa.Boolean, nullable=False),
)

# Evaluation handlers that were added when the pipeline had ended.
HANDLERS = sa.Table(
    "evaluation_handlers",
    METADATA,
    sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("config", sa.JSON, nullable=False),
    sa.Column("datasets", sa.JSON, nullable=False),
    sa.Column("section", sa.JSON, nullable=False),  # the other keys of the evaluation section
    sa.Column("extents", sa.JSON, nullable=False),  # as evaluated_extents of a pipeline
    sa.Column("created_at", sa.Float, nullable=False),
)

FAILURES = sa.Table(
    "evaluation_failures",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("pipeline_id", sa.Integer, sa.ForeignKey("pipelines.id"), nullable=False, index=True),
    sa.Column("message", sa.Text, nullable=False),
    # What it is about, where that was noted; null: all.
    sa.Column("handler", sa.Text),
    sa.Column("dataset", sa.Text),
    sa.Column("trigger_index", sa.Integer),
    sa.Column("start_time", sa.BigInteger),
    sa.Column("end_time", sa.BigInteger),
    sa.Column("metric", sa.Text),
)
