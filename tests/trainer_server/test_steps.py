"""Training steps of the user's own, through the real service; the code on the page about them works as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from modyn.core.config.pipeline import CriterionSection
from modyn.core.config.training import EarlyStoppingSection
from modyn.core.errors import InvalidInputError, JobFailedError
from modyn.proto.trainer_server_pb2 import ListModelsRequest, TrainRequest
from modyn.trainer_server.batch import Batch
from modyn.trainer_server.losses import Loss
from modyn.trainer_server.old_samples import OldSamples
from modyn.trainer_server.parallel import Parallel
from modyn.trainer_server.steps import OwnStep, StepBatch, StepContext
from modyn.trainer_server.validation import held_out
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "own_training_step.md"
RNG = np.random.default_rng(3)
N = 120
FEATURES = RNG.normal(size=(N, 4)).astype(np.float32)
LABELS = RNG.integers(0, 3, N)
MLP = {"id": "MLP", "config": {"in_features": 4, "hidden": [8], "num_classes": 3, "dropout": 0.3}}
SGD = {"optimizers": [{"algorithm": "SGD", "param_groups": [{"config": {"lr": 0.1}}]}], "batch_size": 16}


@pytest.fixture(scope="module")
def dataset(server: TrainingServer) -> str:
    return server.dataset(LABELS, **{f"x{i}": FEATURES[:, i] for i in range(4)})


@pytest.fixture
def steps(code_root: CodeRoot) -> CodeRoot:
    """The functions on the page."""
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        code_root.write(block.splitlines()[0].removeprefix("# "), block)
    return code_root


def request(server: TrainingServer, dataset: str, root: object, step: str | None, **fields: Any) -> TrainRequest:
    more = fields.pop("training", {})
    training = {**SGD, **more} if step is None else {**SGD, **more, "step": step}
    training_set = fields.pop("training_set", None) or server.sets.put_range(dataset, 60, N)
    return server.request(dataset, training_set, model=MLP, training=training, root=root, **fields)


def test_the_plain_step_is_the_default_bit_for_bit(server: TrainingServer, dataset: str, steps: CodeRoot) -> None:
    weighted = server.sets.put(dataset, np.arange(60, N), RNG.uniform(0.1, 2, 60))
    models = {
        server.train(request(server, dataset, steps, step, training_set=weighted)).model
        for step in (None, "my_plain_step:step")
    }
    assert len(models) == 1


def test_distillation_and_replay(server: TrainingServer, dataset: str, steps: CodeRoot) -> None:
    """Both change the model; the same inputs give the same one; old keys are those of the earlier sets."""
    sets = [server.sets.put_range(dataset, 0, 30), server.sets.put(dataset, [31, 33, 35, 50, 51], content="odd")]
    first = server.train(request(server, dataset, steps, "my_steps:distil_and_replay", training_set=sets[0]))
    assert first.model == server.train(request(server, dataset, steps, None, training_set=sets[0])).model
    previous, replayed = {"previous_model": first.model}, {"previous_training_sets": sets}
    models = [
        server.train(request(server, dataset, steps, "my_steps:distil_and_replay", trigger_index=2, **fields)).model
        for fields in ({}, previous, replayed, {**previous, **replayed}, {**previous, **replayed})
    ]
    assert len(set(models)) == 4
    assert models[3] == models[4]


def test_old_samples_are_those_of_earlier_sets(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write(
        "my_records.py",
        """
        def step(model, batch, context):
            old = context.old_samples(8)
            again = context.old_samples(1000)
            assert len(old) == 8 and len(set(old.keys.tolist())) == 8
            assert sorted(again.keys.tolist()) == [*range(30), 31, 33, 35, 50, 51]
            assert old.labels.shape == (8,) and old.inputs.shape == (8, 4) and old.weights is None
            print("drawn", context.epoch, context.batch_index, sorted(old.keys.tolist()))
            return context.loss(model(old.inputs), old.labels)
        """,
    )
    sets = [server.sets.put_range(dataset, 0, 30), server.sets.put(dataset, [31, 33, 35, 50, 51], content="odd")]
    drawn = []
    for trigger in (1, 1, 2):
        fields = {"trigger_index": trigger, "previous_training_sets": sets, "training": {"epochs_per_trigger": 2}}
        server.train(request(server, dataset, code_root, "my_records:step", **fields))
        log = server.state.folder("jobs") / "p" / f"train-{trigger}.log"
        drawn.append([line for line in log.read_text().splitlines() if line.startswith("drawn")])
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({line.split(" ", 3)[3] for line in drawn[0]}) == len(drawn[0]) == 8  # each batch its own


def test_old_samples_are_none_that_are_held_out(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    stopping = EarlyStoppingSection(validation_share=0.3)
    mask = held_out(np.arange(N), stopping, 0)
    assert mask[:30].any()
    assert mask[60:].any()
    code_root.write(
        "my_held_out.py",
        f"""
        def step(model, batch, context):
            assert sorted(context.old_samples(1000).keys.tolist()) == {np.flatnonzero(~mask[:30]).tolist()}
            return context.loss(model(batch.inputs), batch.labels)
        """,
    )
    fields: dict[str, Any] = {"previous_training_sets": [server.sets.put_range(dataset, 0, 30)], "trigger_index": 1}
    training = {"early_stopping": stopping.model_dump()}
    result = server.train(request(server, dataset, code_root, "my_held_out:step", training=training, **fields))
    assert result.samples_trained == np.count_nonzero(~mask[60:])


def test_the_previous_model_draws_nothing(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write(
        "my_previous.py",
        """
        def step(model, batch, context):
            if context.previous_model is not None:
                assert not context.previous_model.training
                assert not any(p.requires_grad for p in context.previous_model.parameters())
            assert (context.previous_model is None) == (context.trigger_index == 0)
            return context.loss(model(batch.inputs), batch.labels)
        """,
    )
    first = server.train(request(server, dataset, code_root, None)).model
    again = {"trigger_index": 1, "seed": 4}
    expected = server.train(request(server, dataset, code_root, None, **again)).model
    with_one = server.train(request(server, dataset, code_root, "my_previous:step", previous_model=first, **again))
    assert with_one.model == expected
    # A model that the first trigger starts from is no trigger's.
    server.train(request(server, dataset, code_root, "my_previous:step", initial_model=first))


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("return 3.0", InvalidInputError, "training.step: my_wrong:step returned a float; expected a scalar tensor"),
        ("return model(batch.inputs)", InvalidInputError, r"returned a tensor of shape \[16, 3\]; expected a scalar"),
        ("return context.loss(model(batch.inputs), batch.labels).detach()", InvalidInputError, "without gradients"),
        ("return batch.nothing", InvalidInputError, r"my_wrong:step raised AttributeError.*\(line 3 of my_wrong.py"),
        (
            "return context.loss(model(batch.inputs), batch.labels) * float('nan')",
            JobFailedError,
            "the loss that training.step my_wrong:step returned is nan at batch 1",
        ),
    ],
)
def test_wrong_steps(
    server: TrainingServer, dataset: str, code_root: CodeRoot, body: str, error: type[Exception], message: str
) -> None:
    code_root.write("my_wrong.py", f"\ndef step(model, batch, context):\n    {body}\n")
    with pytest.raises(error, match=message):
        server.train(request(server, dataset, code_root, "my_wrong:step"))


def test_an_edited_step_is_trained_again(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write("my_factor.py", "FACTOR = 1.0\n")
    code_root.write(
        "my_scaled.py",
        """
        from my_factor import FACTOR

        def step(model, batch, context):
            return FACTOR * context.loss(model(batch.inputs), batch.labels)
        """,
    )
    reused = []
    for factor in ("1.0", "1.0", "2.0"):
        code_root.write("my_factor.py", f"FACTOR = {factor}\n")
        reused.append(server.train(request(server, dataset, code_root, "my_scaled:step", reuse=True)).reused)
    assert reused == [False, True, False]


def test_options_through_the_service(server: TrainingServer, dataset: str) -> None:
    """Early stopping, compiled, accumulated, clipped, averaged: what the job says of it."""
    training = {
        "epochs_per_trigger": 40,
        "early_stopping": {"validation_share": 0.3, "patience": 2},
        "gradient_accumulation": 2,
        "gradient_clipping": {"max_norm": 1.0},
        "callbacks": [{"name": "ExponentialMovingAverage"}],
        "compile": {"backend": "eager"},
    }
    events = server.events(request(server, dataset, None, None, training=training))
    result = events[-1].result
    started = next(event.started for event in events if event.HasField("started"))
    assert 30 <= started.samples_per_epoch < 60
    assert len(result.validation_losses) == result.epochs == len(result.epoch_losses)
    assert result.validation_losses[result.best_epoch] == min(result.validation_losses)
    assert result.epochs in {result.best_epoch + 3, 40}
    assert result.telemetry.losses[-1].batch == result.batches
    assert result.telemetry.validation_seconds > 0
    assert result.telemetry.callback_seconds > 0
    listed = server.peers.trainer_server.ListModels(ListModelsRequest())  # kept with the model
    kept = next(model for model in listed if model.model == result.model).result
    assert kept.telemetry == result.telemetry
    assert kept.validation_losses == result.validation_losses
    tiny = server.sets.put_range(dataset, 0, 1)
    events = server.events(request(server, dataset, None, None, training=training, training_set=tiny))
    assert any("too few samples to hold any out" in event.notice for event in events)
    assert not events[-1].result.validation_losses


@pytest.mark.parametrize("counts", [(5, 3), (8, 0)])
def test_shares_of_several_processes_are_one_batch(counts: tuple[int, int]) -> None:
    """The mean of the processes' gradients is the gradient of the whole batch; one that has no share adds nothing."""
    model = torch.nn.Linear(4, 3)
    inputs, labels = torch.randn(8, 4), torch.randint(0, 3, (8,))
    cpu = torch.device("cpu")
    criterion = Loss(CriterionSection(), cpu)

    def plain(model: torch.nn.Module, batch: StepBatch, context: StepContext) -> torch.Tensor:
        return context.loss(model(batch.inputs), batch.labels)

    (expected,) = torch.autograd.grad(criterion(model(inputs), labels, None, np.arange(8)), model.weight)
    total = torch.zeros_like(expected)
    start = 0
    for rank, count in enumerate(counts):
        rows = slice(start, start + count) if count else slice(0, 1)
        start += count
        batch = Batch(np.arange(8)[rows], inputs[rows], labels[rows], None, of=8, padding=not count)
        step = OwnStep("a:step", plain, criterion, cpu, cast("OldSamples", None), 0, Two(rank), lambda: None)
        total += torch.autograd.grad(step(model, batch, 0, 0), model.weight)[0]
    torch.testing.assert_close(total / 2, expected)


class Two(Parallel):
    """One of two processes."""

    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


@pytest.mark.slow
def test_the_default_compiler_in_a_job(server: TrainingServer, dataset: str) -> None:
    plain = server.train(request(server, dataset, None, None))
    compiled = server.train(request(server, dataset, None, None, training={"compile": True}))
    assert compiled.batches == plain.batches
    assert list(compiled.epoch_losses) == pytest.approx(list(plain.epoch_losses), rel=0.3)  # dropout draws differ
