"""Nothing is trained twice, and nothing is reused that should not be."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.models import codeidentity
from modyn.proto.trainer_server_pb2 import TrainEvent, TrainResult
from tests.helpers.code import CodeRoot
from tests.helpers.training import TrainingServer

N = 60
MLP = {"id": "MLP", "config": {"in_features": 2, "num_classes": 2}}


@pytest.fixture
def dataset(server: TrainingServer) -> str:
    """Every test has its own, so that none reuses another's trainings."""
    rng = np.random.default_rng(0)
    return server.dataset(np.arange(N) % 2, a=rng.normal(size=N), b=rng.normal(size=N))


class Trials:
    """Trains with changes to one request, reuse allowed."""

    def __init__(self, server: TrainingServer, dataset: str, **fields: Any) -> None:
        self.server = server
        self.dataset = dataset
        self.fields = fields
        self.training_set = server.sets.put_range(dataset, 0, N)
        self.notices: list[str] = []

    def __call__(self, training_set: str | None = None, **changes: Any) -> TrainResult:
        fields = {"model": MLP, "reuse": True, **self.fields, **changes}
        request = self.server.request(self.dataset, training_set or self.training_set, **fields)
        events = self.server.events(request)
        self.notices = [event.notice for event in events if event.WhichOneof("kind") == "notice"]
        return events[-1].result


def test_the_same_inputs_are_answered_without_training(server: TrainingServer, dataset: str) -> None:
    trial = Trials(server, dataset)
    first = trial()
    assert not first.reused
    assert first.input_digest
    again = trial(pipeline_id="another")
    assert again.reused
    again.reused = False
    assert again == first  # with the original cost


def test_no_reuse_trains_again_and_is_remembered(server: TrainingServer, dataset: str) -> None:
    trial = Trials(server, dataset)
    first, second = trial(reuse=False), trial(reuse=False)
    assert not second.reused
    assert (first.model, first.input_digest) == (second.model, second.input_digest)
    assert trial().reused


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"trigger_index": 1},
        {"training": {"batch_size": 7}},
        {"training": {"threads": 2}},
        {"model": {"id": "MLP", "config": {"in_features": 2, "num_classes": 3}}},
        {"data": {"parser": {"name": "columns", "scale": 0.5}}},
        {"num_samples_to_pass": 10},
    ],
)
def test_a_changed_input_is_trained(server: TrainingServer, dataset: str, changes: dict[str, Any]) -> None:
    trial = Trials(server, dataset)
    trial()
    assert not trial(**changes).reused
    assert trial(**changes).reused
    assert trial().reused


def test_changed_weights_data_or_start_are_trained(server: TrainingServer, dataset: str) -> None:
    trial = Trials(server, dataset)
    model = trial().model
    assert not trial(initial_model=model).reused
    assert not trial(server.sets.put(dataset, np.arange(N), np.linspace(1, 2, N))).reused
    assert not trial(server.sets.put(dataset, np.arange(N), content="corrected labels")).reused
    assert trial(initial_model=model).reused


def test_user_code_counts_with_what_it_imports(server: TrainingServer, dataset: str, code_root: CodeRoot) -> None:
    code_root.write("mine.py", "import tools\n\ndef parse(columns):\n    return tools.stack(columns)\n")
    code_root.write("tools.py", "import numpy as np\n\ndef stack(c):\n    return np.stack([c['a'], c['b']], axis=1)\n")
    trial = Trials(server, dataset, data={"parser": "mine:parse"}, root=code_root)
    first = trial()
    assert not first.reused
    assert trial().reused
    code_root.write("tools.py", "import numpy as np\n\ndef stack(c):\n    return np.stack([c['b'], c['a']], axis=1)\n")
    second = trial()
    assert not second.reused
    assert second.model != first.model
    assert trial.notices == []


def test_code_that_reads_files_turns_reuse_off_with_a_notice(
    server: TrainingServer, dataset: str, code_root: CodeRoot
) -> None:
    (code_root.path / "scale.txt").write_text("2")
    code_root.write(
        "reader.py",
        """
        import pathlib
        import numpy as np

        def parse(columns):
            scale = float((pathlib.Path(__file__).parent / "scale.txt").read_text())
            return scale * np.stack([columns["a"], columns["b"]], axis=1)
        """,
    )
    trial = Trials(server, dataset, data={"parser": "reader:parse"}, root=code_root)
    first = trial()
    (code_root.path / "scale.txt").write_text("3")
    second = trial()
    assert not first.reused
    assert not second.reused
    assert first.model != second.model
    assert first.input_digest == ""
    (notice,) = trial.notices
    assert notice.startswith("results are not reused: reader, line 6 calls ")


def test_the_version_of_an_imported_library_counts(
    server: TrainingServer, dataset: str, code_root: CodeRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "colours.py").write_text("")
    metadata = site / "colours-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    (metadata.parent / "top_level.txt").write_text("colours\n")
    metadata.write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(codeidentity, "_SITE_FOLDERS", (*codeidentity._SITE_FOLDERS, site.resolve()))
    code_root.write(
        "painted.py",
        """
        import numpy as np

        try:
            import colours  # where it is installed
        except ImportError:
            colours = None

        def parse(columns):
            return np.stack([columns["a"], columns["b"]], axis=1)
        """,
    )
    trial = Trials(server, dataset, data={"parser": "painted:parse"}, root=code_root)
    assert not trial().reused
    assert trial().reused
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    assert not trial().reused
    assert trial().reused


def test_a_deleted_model_is_trained_again(server: TrainingServer, dataset: str) -> None:
    trial = Trials(server, dataset)
    first = trial()
    files = [path for path in server.state.folder("models").rglob("*") if first.model in path.name]
    assert files
    for path in files:
        path.unlink()
    second = trial()
    assert not second.reused
    assert second.model == first.model
    assert trial().reused


def test_the_same_training_asked_for_twice_at_once_runs_once(server: TrainingServer, dataset: str) -> None:
    trial = Trials(server, dataset, training={"epochs_per_trigger": 50, "batch_size": 2})
    request = server.request(dataset, trial.training_set, model=MLP, reuse=True, training=trial.fields["training"])
    results: list[list[TrainEvent]] = []
    threads = [threading.Thread(target=lambda: results.append(server.events(request))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(events[-1].result.reused for events in results) == [False, True]


def test_code_that_changed_while_a_training_ran_is_not_taken_for_what_ran(
    server: TrainingServer, dataset: str, tmp_path: Path
) -> None:
    source = tmp_path / "changing.py"
    text = "import torch\n\ndef parse(columns):\n    return torch.ones(len(columns['a']), 2) * 1.0\n"
    source.write_text(text)
    trial = Trials(server, dataset, data={"parser": "changing:parse"}, root=tmp_path)
    request = trial.server.request(
        dataset, trial.training_set, model=MLP, reuse=True, data={"parser": "changing:parse"}, root=tmp_path
    )
    events = []
    for event in server.peers.trainer_server.Train(request):
        if event.WhichOneof("kind") == "started":
            source.write_text(text.replace("1.0", "2.0"))
        events.append(event)
    assert events[-1].result.input_digest == ""
    assert any("code changed" in event.notice for event in events)
    source.write_text(text)
    assert not trial().reused
