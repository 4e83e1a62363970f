"""Showing samples to models, in turn and two batches at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError
from modyn.evaluator.forwarding import Forwarding, ModelFailedError, Said, Shown, Viewer, is_reentrant
from modyn.evaluator.plan import ModelTask
from modyn.evaluator.reading import Batch
from modyn.models.decoding import Decoder
from modyn.storage.batches import SampleBatch

N, BATCH, WIDTH = 200, 8, 4
PIXELS = np.random.default_rng(0).integers(0, 256, (N, WIDTH), np.uint8)
PARSER = {"name": "numeric_record", "dtype": "uint8"}


def samples(pixels: Sequence[bytes]) -> SampleBatch:
    count = len(pixels)
    keys = np.arange(100, 100 + count)
    return SampleBatch(keys, pa.nulls(count), keys, {"data": pa.array(list(pixels), pa.binary())})


def whole(pixels: Sequence[bytes] | None = None) -> Batch:
    found = samples([row.tobytes() for row in PIXELS] if pixels is None else pixels)
    return Batch(found, slice(0, len(found)), None)


def forwarding(threads: int, modules: Sequence[nn.Module], *, keep_scores: bool = True) -> Forwarding:
    decoder = Decoder(DataSection.model_validate({"dataset_id": "d", "parser": PARSER}), None)
    made = Forwarding(decoder, torch.device("cpu"), batch_size=BATCH, threads=threads, keep_scores=keep_scores)
    made.see_modules(modules)
    return made


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def task(*runs: tuple[int, int]) -> ModelTask:
    return ModelTask("m", np.array(runs, dtype=np.int64).reshape(-1, 2))


def shown(made: Forwarding, viewers: Sequence[Viewer], batch: Batch | None = None) -> list[Shown]:
    with closing(made):
        found = [part for step in (batch or whole()).cut(made.step) for part in made.show(step, viewers)]
        return [*found, *made.rest()]


def said(parts: Sequence[Shown], viewer: int) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Keys and scores of all that one model was shown."""
    keys: list[int] = []
    scores: list[npt.NDArray[np.float32]] = []
    for part in parts:
        assert part.outcomes is not None
        outcome = part.outcomes[viewer]
        assert isinstance(outcome, Said)
        assert outcome.scores is not None
        keys += outcome.keys.tolist()
        scores.append(outcome.scores.numpy())
    return keys, np.concatenate(scores)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_model_says_what_it_does_alone_batch_by_batch(threads: int) -> None:
    modules = [linear(1), linear(2)]
    made = forwarding(threads, modules)
    assert made.decodes == (threads > 1)
    some = [run for start in range(0, N, BATCH) for run in ((start + 1, start + 3), (start + 5, start + 6))]
    viewers = [Viewer(modules[0], task((0, N))), Viewer(modules[1], task(*some))]
    parts = shown(made, viewers) if made.decodes else shown(made, viewers, decoded())
    assert [part.batch.samples.keys[0] for part in parts] == sorted(part.batch.samples.keys[0] for part in parts)
    inputs = torch.from_numpy(PIXELS.astype(np.float32))
    for index, module in enumerate(modules):
        rows = np.concatenate([np.arange(*run) for run in viewers[index].task.runs.tolist()])
        keys, scores = said(parts, index)
        assert keys == (rows + 100).tolist()
        with torch.inference_mode():
            batches = [rows[rows // BATCH == batch] for batch in range(N // BATCH)]
            expected = np.concatenate([module(inputs[own]).numpy() for own in batches if len(own)])
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def decoded() -> Batch:
    batch = whole()
    return Batch(batch.samples, batch.places, torch.from_numpy(PIXELS.astype(np.float32)))


def test_two_batches_are_worked_on_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)  # passed only by two at a time

    class Meets(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            meeting.wait()
            return inputs

    Meets.__module__ = "modyn.models.modules.meets"
    parts = shown(
        forwarding(2, [Meets()]),
        [Viewer(Meets(), task((0, 128)))],
        Batch(whole().samples.slice(0, 128), slice(0, 128), None),
    )
    assert len(said(parts, 0)[0]) == 128


def test_scores_are_dropped_where_nobody_wants_them() -> None:
    module = linear(1)
    (first, *_) = shown(forwarding(2, [module], keep_scores=False), [Viewer(module, task((0, N)))])
    assert first.outcomes is not None
    assert isinstance(first.outcomes[0], Said)
    assert first.outcomes[0].scores is None


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_that_changes_its_inputs_does_not_change_those_of_the_next(threads: int) -> None:
    changing = nn.Sequential(nn.Threshold(1e9, 7.0, inplace=True), nn.Linear(WIDTH, 3)).eval()
    plain = linear(1)
    viewers = [Viewer(changing, task((0, N))), Viewer(plain, task((0, N)))]
    made = forwarding(threads, [changing, plain])
    parts = shown(made, viewers) if made.decodes else shown(made, viewers, decoded())
    with torch.inference_mode():
        expected = plain(torch.from_numpy(PIXELS.astype(np.float32))).numpy()
    np.testing.assert_allclose(said(parts, 1)[1], expected, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_names_the_layer_and_spares_the_other_models(threads: int) -> None:
    wrong, right = nn.Sequential(nn.Linear(WIDTH, 6), nn.Linear(5, 3)), linear(1)
    made = forwarding(threads, [wrong, right])
    viewers = [Viewer(wrong, task((0, N))), Viewer(right, task((0, N)))]
    parts = shown(made, viewers) if made.decodes else shown(made, viewers, decoded())
    for part in parts:
        assert part.outcomes is not None
        failed, good = part.outcomes
        assert isinstance(failed, ModelFailedError)
        assert "layer '1' (Linear) expects inputs of 5 features" in str(failed)
        assert isinstance(good, Said)


def test_a_wrong_output_is_an_error_of_its_model() -> None:
    flat = nn.Flatten(0)
    (first, *_) = shown(forwarding(2, [flat]), [Viewer(flat, task((0, N)))])
    assert first.outcomes is not None
    assert isinstance(first.outcomes[0], InvalidInputError)
    assert "expected [8, outputs]" in str(first.outcomes[0])


def test_samples_that_cannot_be_decoded_are_left_to_the_caller() -> None:
    module = linear(1)
    pixels = [row.tobytes() for row in PIXELS]
    pixels[70] = b"123"
    parts = shown(forwarding(2, [module]), [Viewer(module, task((0, N)))], whole(pixels))
    bad = [part for part in parts if part.outcomes is None]
    assert [(part.batch.samples.keys[0], len(part.batch)) for part in bad] == [(164, 64)]
    good = Batch(samples(pixels[64:70]), slice(64, 70), torch.from_numpy(PIXELS[64:70].astype(np.float32)))
    made = forwarding(2, [module])
    with closing(made):
        now = made.show_now(good, [Viewer(module, task((0, N)))])
    assert len(said([now], 0)[0]) == 6


def test_only_models_that_leave_nothing_behind_may_run_in_two_threads() -> None:
    class Own(nn.Module):
        pass

    hooked, patched, before = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
    hooked.register_forward_hook(lambda *_: None)
    before.register_forward_pre_hook(lambda *_: None)
    vars(patched)["forward"] = patched.forward
    assert is_reentrant(linear(1))
    assert is_reentrant(nn.Embedding(3, 2))
    for part in (Own(), hooked, before, patched, nn.Embedding(3, 2, max_norm=1.0)):
        assert not is_reentrant(part)
        assert not is_reentrant(nn.Sequential(part))
    assert not forwarding(2, [linear(1), nn.Sequential(Own())]).decodes
    assert not forwarding(2, []).decodes
