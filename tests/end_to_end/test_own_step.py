"""A pipeline with a training step of its own: what each trigger gets to see of those before."""

from __future__ import annotations

import textwrap
from pathlib import Path

from modyn.client import Client, ReplayOptions
from tests.helpers.streams import drifting_table, write_daily_files, write_pipeline

STEP = """
def step(model, batch, context):
    old = context.old_samples(10_000)
    seen = [] if old is None else old.keys.tolist()
    assert (context.previous_model is None) == (context.trigger_index == 0) == (old is None)
    if context.batch_index == 0:
        print("seen", context.trigger_index, len(seen), min(seen, default=-1), max(seen, default=-1))
    loss = context.loss(model(batch.inputs), batch.labels)
    return loss if old is None else loss + context.loss(model(old.inputs), old.labels)
"""


def test_each_trigger_sees_the_model_and_the_samples_before_it(tmp_path: Path) -> None:
    table = drifting_table(days=4, per_day=30)
    write_daily_files(tmp_path / "data", table)
    (tmp_path / "my_steps.py").write_text(textwrap.dedent(STEP))
    pipeline = write_pipeline(
        tmp_path,
        trigger={"id": "DataAmountTrigger", "num_samples": 40},
        training={"step": "my_steps:step", "batch_size": 20, "use_previous_model": False},
        evaluation=None,
    )
    state = tmp_path / "state"
    with Client.embedded(state) as client:
        reports = []
        for reuse in (False, True):
            pipeline_id = client.submit(pipeline, ReplayOptions(), reuse=reuse)
            assert client.wait(pipeline_id).error.message == ""
            reports.append(client.report(pipeline_id))
        logs = [(state / "jobs" / "1" / f"train-{trigger}.log").read_text() for trigger in range(3)]
    seen = [[line for line in log.splitlines() if line.startswith("seen")] for log in logs]
    assert seen == [["seen 0 0 -1 -1"], ["seen 1 40 0 39"], ["seen 2 80 0 79"]]
    assert [trigger.model for trigger in reports[0].triggers] == [trigger.model for trigger in reports[1].triggers]
    assert reports[1].cost.trainings_reused == 3
