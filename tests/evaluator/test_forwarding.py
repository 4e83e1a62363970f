"""Showing samples to models, in turn and two batches at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from torch import nn

from modyn.core.config.pipeline import DataSection
from modyn.core.errors import InvalidInputError
from modyn.evaluator.forwarding import Failed, Forwarding, ModelFailedError, Shown, Viewer, is_reentrant
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


def forwarding(
    threads: int, modules: Sequence[nn.Module], *, keep_scores: bool = True, parser: Any = PARSER
) -> Forwarding:
    decoder = Decoder(DataSection.model_validate({"dataset_id": "d", "parser": parser}), None)
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
    batch, first = batch or whole(), 0
    found: list[Shown] = []
    with closing(made):
        while first < len(batch):  # steps grow once it is known what models say
            step = batch.part(first, min(made.step, len(batch) - first))
            first += len(step)
            found += made.show(step, viewers)
        return [*found, *made.rest()]


def said(parts: Sequence[Shown], viewer: int) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Keys and scores of all that one model was shown."""
    keys: list[int] = []
    scores: list[npt.NDArray[np.float32]] = []
    for part in parts:
        assert part.outcomes is not None
        outcome = part.outcomes[viewer]
        assert isinstance(outcome, list)
        for said_of_batch in outcome:
            assert said_of_batch.scores is not None
            keys += said_of_batch.keys.tolist()
            scores.append(said_of_batch.scores.numpy())
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
    met, inside = threading.Event(), [0]

    class Meets(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            inside[0] += 1
            if inside[0] == 2:
                met.set()
            assert met.wait(30), "the second one comes while the first one is here"
            return inputs

    Meets.__module__ = "modyn.models.modules.meets"
    parts = shown(forwarding(2, [Meets()]), [Viewer(Meets(), task((0, N)))])
    assert len(said(parts, 0)[0]) == N


def test_scores_are_dropped_where_nobody_wants_them() -> None:
    module = linear(1)
    (first, *_) = shown(forwarding(2, [module], keep_scores=False), [Viewer(module, task((0, N)))])
    assert first.outcomes is not None
    assert isinstance(first.outcomes[0], list)
    assert first.outcomes[0][0].scores is None


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
        assert isinstance(failed, Failed)
        explained = made.explained(failed)
        assert isinstance(explained, ModelFailedError)
        assert "layer '1' (Linear) expects inputs of 5 features" in str(explained)
        assert isinstance(good, list)


def test_a_wrong_output_is_an_error_of_its_model() -> None:
    flat = nn.Flatten(0)
    made = forwarding(2, [flat])
    (first, *_) = shown(made, [Viewer(flat, task((0, N)))])
    assert first.outcomes is not None
    assert isinstance(first.outcomes[0], Failed)
    with pytest.raises(InvalidInputError, match=r"expected \[8, outputs\]"):
        raise made.explained(first.outcomes[0])


def test_samples_that_cannot_be_decoded_are_left_to_the_caller() -> None:
    module = linear(1)
    pixels = [row.tobytes() for row in PIXELS]
    pixels[70] = b"123"
    parts = shown(forwarding(2, [module]), [Viewer(module, task((0, N)))], whole(pixels))
    (bad,) = (part for part in parts if part.outcomes is None)
    assert bad.batch.position(0) <= 70 < bad.batch.end
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
    assert not is_reentrant(nn.FractionalMaxPool2d(2, output_size=2))
    assert not is_reentrant(nn.TransformerEncoderLayer(4, 1, activation=lambda x: x))
    assert is_reentrant(nn.TransformerEncoderLayer(4, 1))


def test_code_of_users_is_called_from_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that fills the same array again and again."""
    (tmp_path / "filling.py").write_text(
        "import numpy as np, torch\nout = np.empty((8, 4), np.float32)\ndef parse(columns):\n"
        "    rows = [np.frombuffer(row, np.uint8) for row in columns['data'].to_pylist()]\n"
        "    out[:len(rows)] = rows\n    return torch.from_numpy(out[:len(rows)])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = forwarding(2, [linear(1)], parser="filling:parse")
    assert not made.decodes
    assert made.step == BATCH


def test_what_takes_too_much_memory_for_two_is_shown_one_at_a_time() -> None:
    """The second of two at once finds no memory."""
    both, inside = threading.Lock(), [0]

    class Greedy(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            with both:
                inside[0] += 1
                if inside[0] > 1:
                    inside[0] -= 1
                    raise MemoryError
            time.sleep(0.01)
            with both:
                inside[0] -= 1
            return inputs

    Greedy.__module__ = "modyn.models.modules.greedy"
    parts = shown(forwarding(2, [Greedy()]), [Viewer(Greedy(), task((0, N)))])
    assert said(parts, 0)[0] == list(range(100, 100 + N))
