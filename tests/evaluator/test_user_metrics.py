"""Metrics with code of the user: what they get, where they run, and what becomes of those that fail."""

from __future__ import annotations

import doctest
import os
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from modyn.core.config.evaluation import EvaluationSection
from modyn.core.config.reader import json_schema, load_pipeline_text
from modyn.core.errors import CancelledError, InvalidInputError, NotAllowedError
from modyn.core.jobs import ForkServerLauncher
from modyn.core.keysets import KeySet
from modyn.core.plugins.evaluation import METRICS
from modyn.core.rpc import cancel
from modyn.core.values import to_value
from modyn.evaluator.baselines import BASELINES
from modyn.evaluator.metrics import user
from modyn.evaluator.user_scoring import MAX_DEATHS
from modyn.proto.common_pb2 import CodeOrigin
from modyn.proto.evaluator_pb2 import CheckEvaluationRequest, EvaluateFailure, EvaluateRequest, MetricInfo
from tests.helpers.evaluating import MODEL, EvaluationServer

N = 80
FEATURES = {f"x{i}": np.random.default_rng(i).normal(size=N).astype(np.float32) for i in range(4)}
LABELS = np.arange(N) * 7 % 3
KIND = np.arange(N) % 2
WINDOWS = [(0, 40), (20, 60), (30, 31), (60, None)]
PARSED = {"parser": {"name": "columns", "columns": ["x0", "x1", "x2", "x3"]}}

NUMBER = {"id": "MLP", "config": {**MODEL["config"], "num_classes": 1}}

MY_METRICS = """
import os, pathlib, signal, time
import numpy as np

HERE = pathlib.Path(__file__).parent

def share(outcomes, of="all"):
    right = outcomes.predictions == outcomes.labels
    return right.mean() if of == "all" else right[outcomes.labels == of].mean() if of in outcomes.labels else None

def margin(outcomes):
    best = np.sort(outcomes.scores, axis=1)
    return float((best[:, -1] - best[:, -2]).mean())

def distance(outcomes):
    return np.abs(outcomes.scores.mean(axis=1) - outcomes.targets[:, 0]).mean()

def process(outcomes):
    return os.getpid()

def returns(outcomes, value):
    nan, inf = float("nan"), float("inf")
    return {"text": "high", "nan": nan, "none": None, "inf": -inf, "array": np.ones(3), "yes": True}[value]

def raises_on_one(outcomes):
    if len(outcomes) == 1:
        raise ValueError("only one sample")
    return len(outcomes)

def changes(outcomes):
    outcomes.labels[:] = 0

def spoils(outcomes):
    outcomes.probabilities[:] = 0

def dies_on_one(outcomes):
    if len(outcomes) == 1:
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return len(outcomes)

def hangs(outcomes):
    (HERE / "pid").write_text(str(os.getpid()))
    time.sleep(60)
"""


@dataclass
class Said:
    """What an evaluation said. Values are of scores by subject, window and name."""

    values: dict[tuple[str, int, str], float | None] = field(default_factory=dict)
    failures: list[EvaluateFailure] = field(default_factory=list)
    infos: dict[str, MetricInfo] = field(default_factory=dict)

    def of(self, name: str) -> dict[tuple[str, int], float | None]:
        return {(subject, window): value for (subject, window, own), value in self.values.items() if own == name}


def ask(server: EvaluationServer, request: EvaluateRequest) -> Said:
    said = Said()
    for event in server.peers.evaluator.Evaluate(request):
        scores = event.scores
        for metric in scores.metrics:
            key = (scores.model or scores.baseline, scores.window, metric.name)
            assert key not in said.values
            said.values[key] = metric.value if metric.HasField("value") else None
        if event.HasField("failure"):
            said.failures.append(event.failure)
        said.infos.update({info.name: info for info in event.metrics.metrics})
    assert not leftovers(server)
    return said


def leftovers(server: EvaluationServer) -> list[Path]:
    return list((server.state.path / "outcomes").glob(".tmp*"))


@pytest.fixture
def name(server: EvaluationServer) -> str:
    return server.dataset(LABELS, np.arange(N), kind=KIND, **FEATURES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "my_metrics.py").write_text(MY_METRICS)
    return tmp_path


def own(function: str, **keys: Any) -> dict[str, Any]:
    return {"name": f"my_metrics:{function}", **keys}


# ------------------------------------------------------------------------------------------------------- what they get


def test_they_are_scored_like_built_in_ones_in_one_job(server: EvaluationServer, name: str, root: Path) -> None:
    """On every model, baseline, window and slice."""
    models = [server.model(seed) for seed in range(2)]
    metrics = [
        {"name": "Accuracy"},
        own("share"),
        own("share", config={"of": 1}, result="Recall of 1"),
        {"name": "Recall", "average": "macro", "per_class": True},
        own("margin", scores=True),
        own("process"),
    ]
    windows = dict.fromkeys(models, range(len(WINDOWS)))
    request = server.request(
        name, WINDOWS, windows, metrics=metrics, data=PARSED, root=root, baselines=True, slices=["kind"]
    )
    said = ask(server, request)
    assert not said.failures
    for place in ("", "[kind=0]", "[kind=1]"):
        subjects = {subject for subject, _ in said.of(f"share{place}")}
        assert subjects == {*models, *BASELINES}
        assert said.of(f"share{place}") == said.of(f"Accuracy{place}")
        recalls, mine = said.of(f"Recall-macro{place}#1"), said.of(f"Recall of 1{place}")
        assert {at: value for at, value in mine.items() if value is not None} == pytest.approx(
            {at: value for at, value in recalls.items() if value is not None}
        )
    margins = said.of("margin")
    assert all((value is None) == (subject in BASELINES) for (subject, _), value in margins.items())
    jobs = set(said.of("process").values())
    assert len(jobs) == 1
    assert os.getpid() not in jobs
    assert server.launcher.launched == 2  # one predicts, one scores
    assert not list((server.state.path / "jobs" / "7").glob("score-*"))


def test_numbers(server: EvaluationServer, root: Path) -> None:
    targets = np.random.default_rng(9).normal(size=N)
    name = server.dataset(targets, np.arange(N), **FEATURES)
    model = server.model(3, NUMBER)
    metrics = [{"name": "MeanAbsoluteError"}, own("distance", labels="numbers", better="lower")]
    said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, model=NUMBER, root=root))
    assert said.of("distance") == pytest.approx(said.of("MAE"))
    assert len(said.of("distance")) == 4
    assert not said.infos["distance"].greater_is_better


# ------------------------------------------------------------------------------------------------- output transformers


def transformer(body: str) -> str:
    return f"import torch\ndef evaluation_transformer_function(model_output):\n    {body}\n"


def test_outputs_are_transformed_for_one_metric(server: EvaluationServer, name: str) -> None:
    model = server.model(4)

    def scored(bodies: dict[str, str]) -> Said:
        metrics: list[dict[str, Any]] = [
            {"name": metric, "evaluation_transformer_function": body and transformer(body)}
            for metric, body in bodies.items()
        ]
        metrics[0]["per_class"] = True
        said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, data=PARSED))
        assert not said.failures
        return said

    same = {
        "Accuracy": "return model_output.argmax(dim=1).to(torch.int32)",
        "F1Score": "return model_output.double() * 2",
        "LogLoss": "return model_output.add_(1)",  # in place, which the next one does not see
        "Brier": "return model_output + 2",
    }
    plain, transformed = scored(dict.fromkeys(same, "")), scored(same)
    assert transformed.values == pytest.approx(plain.values, rel=1e-5)
    assert len({key for _, _, key in transformed.values}) == 3 + len(same)  # of Accuracy, three classes too
    other = scored({"Accuracy": "return torch.zeros(len(model_output), dtype=torch.int32)"})
    assert other.of("Accuracy")[model, 0] == np.mean(LABELS[:40] == 0)


def test_wrong_transformers(server: EvaluationServer, name: str) -> None:
    wrong = {
        "LogLoss": ("return model_output.argmax(dim=1)", "returned classes; expected scores .*looks at scores"),
        "Accuracy": (
            "return model_output.argmax(dim=1).float()",
            r"returned torch.float32 of shape \[40\] for 40 samp",
        ),
        "Recall": ("return model_output[:3]", r"returned torch.float32 of shape \[3, 3\] for 40 samples; expected a t"),
        "Brier": ("return model_output.numpy()", r"returned ndarray of shape \[40, 3\]; expected a tensor: integer"),
        "BalancedAccuracy": (
            "return model_output @ 3",
            "metric BalancedAccuracy raised TypeError.* in evaluation_tran",
        ),
    }
    metrics: list[dict[str, Any]] = [
        {"name": metric, "evaluation_transformer_function": transformer(body)} for metric, (body, _) in wrong.items()
    ]
    model = server.model(4)
    request = server.request(name, WINDOWS[:1], {model: [0]}, metrics=[*metrics, {"name": "F1Score"}], data=PARSED)
    said = ask(server, request)
    assert len(said.failures) == len(wrong)
    for failure, (_, says) in zip(said.failures, wrong.values(), strict=True):
        assert re.search(says, failure.message)
    assert {name for _, _, name in said.values} == {"F1-macro"}


# ---------------------------------------------------------------------------------------------------------- what fails


def test_what_is_no_number_is_a_failure_of_that_metric(server: EvaluationServer, name: str, root: Path) -> None:
    model = server.model(5)
    wrong = {
        "text": "my_metrics:returns returned 'high'; expected a number, or None",
        "inf": "returned -inf; expected a finite number",
        "array": r"returned ndarray of shape [3]",
        "yes": "returned True; expected a number",
    }
    metrics = [own("returns", config={"value": value}, result=value) for value in [*wrong, "nan", "none"]]
    metrics += [{"name": "my_metrics:absent"}, {"name": "nowhere:f"}, own("HERE"), own("changes"), {"name": "Accuracy"}]
    said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, data=PARSED, root=root))
    wrong |= {
        "absent": "has no attribute 'absent'",
        "f": "no module named 'nowhere'",
        "HERE": "expected a function",
        "changes": "raised ValueError: assignment destination is read-only (line 31 of my_metrics.py, in changes)",
    }
    assert {failure.metric: True for failure in said.failures} == dict.fromkeys(wrong, True)
    for failure in said.failures:
        assert wrong[failure.metric] in failure.message
        assert failure.model == model
        assert not failure.HasField("window")  # it is the same for all of them
    assert set(said.of("nan").values()) == set(said.of("none").values()) == {None}
    assert len(said.of("Accuracy")) == 4


def test_what_one_metric_does_to_its_arrays_no_other_sees(server: EvaluationServer, name: str, root: Path) -> None:
    """Slices, and windows that leave gaps, are copies; they cannot be written to either."""
    model, metrics = server.model(5), [own("changes"), own("spoils", scores=True), own("share")]
    windows: list[tuple[int | None, int | None]] = [(0, 20), (30, 50)]
    request = server.request(name, windows, {model: [0, 1]}, metrics=metrics, data=PARSED, root=root, slices=["kind"])
    said = ask(server, request)
    assert {failure.metric for failure in said.failures} == {"changes", "spoils"}
    assert not any(name.startswith(("changes", "spoils")) for _, _, name in said.values)
    alone = ask(server, server.request(name, windows, {model: [0, 1]}, slices=["kind"], data=PARSED))
    assert {value for key, value in said.values.items() if "share" in key[2]} == set(alone.values.values())


def test_one_window_fails_alone(server: EvaluationServer, name: str, root: Path) -> None:
    model = server.model(5)
    metrics = [own("raises_on_one"), {"name": "Accuracy"}]
    said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, data=PARSED, root=root))
    (failure,) = said.failures
    assert (failure.window, failure.metric) == (2, "raises_on_one")
    assert "metric my_metrics:raises_on_one raised ValueError: only one sample (line" in failure.message
    assert said.of("raises_on_one") == {(model, 0): 40, (model, 1): 40, (model, 3): 20}
    assert len(said.of("Accuracy")) == 4


def test_a_job_that_dies_costs_what_it_has_not_answered(server: EvaluationServer, name: str, root: Path) -> None:
    """The next model gets another job; after some deaths nothing more is tried."""
    models = [server.model(seed) for seed in range(6, 8 + MAX_DEATHS)]
    windows = {model: [0, 1, 2, 3] for model in models} | {models[1]: [0, 1, 3]}
    metrics = [own("dies_on_one"), {"name": "Accuracy"}]
    said = ask(server, server.request(name, WINDOWS, windows, metrics=metrics, data=PARSED, root=root))
    assert server.launcher.launched == 1 + MAX_DEATHS
    assert set(said.of("Accuracy")) == {(model, window) for model, own in windows.items() for window in own}
    before = {(model, window): 40 for model in models[: 1 + MAX_DEATHS] for window in (0, 1)}
    assert said.of("dies_on_one") == {**before, (models[1], 3): 20}
    assert {failure.metric for failure in said.failures} == {"dies_on_one"}
    failed = {(failure.model, failure.window) for failure in said.failures if failure.HasField("window")}
    assert failed == {(model, window) for model in models[: 1 + MAX_DEATHS] for window in windows[model][2:]} - {
        (models[1], 3)
    }
    assert all("killed by SIGKILL" in f.message and "last words" in f.message for f in said.failures)
    assert said.failures[-1].model == models[-1]
    assert not said.failures[-1].HasField("window")
    assert "nothing more is tried" in said.failures[-1].message


def test_a_metric_that_hangs_ends_with_its_call(server: EvaluationServer, name: str, root: Path) -> None:
    model = server.model(5)
    stream = server.peers.evaluator.Evaluate(
        server.request(name, [(0, 40)], {model: [0]}, metrics=[own("hangs")], data=PARSED, root=root)
    )
    errors: list[CancelledError] = []

    def read() -> None:
        try:
            list(stream)
        except CancelledError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    pid_file = root / "pid"
    while not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.02)
    cancel(stream)
    reader.join(timeout=10)
    assert errors
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid_file.read_text()}").exists() or leftovers(server):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    said = ask(server, server.request(name, [(0, 40)], {model: [0]}, metrics=[own("share")], data=PARSED, root=root))
    assert len(said.values) == 1  # its slot is free again


# ----------------------------------------------------------------------------------------------------------- what it is


def test_digests_follow_the_code(server: EvaluationServer, name: str, root: Path) -> None:
    metrics = [own("share"), {"name": "Accuracy"}]

    def digests() -> dict[str, str]:
        said = ask(server, server.request(name, WINDOWS, {}, metrics=metrics, data=PARSED, root=root))
        return {name: info.digest for name, info in said.infos.items()}

    before = digests()
    assert digests() == before
    (root / "my_metrics.py").write_text(MY_METRICS.replace('of == "all"', "of == 'all'"))
    after = digests()
    assert after["share"] != before["share"]
    assert after["Accuracy"] == before["Accuracy"]


def test_shared_servers_run_no_inline_code(launcher: ForkServerLauncher, tmp_path: Path) -> None:
    server = EvaluationServer(tmp_path, launcher, allow_user_code=False)
    try:
        name, model = server.dataset(LABELS, np.arange(N), **FEATURES), server.model(1)
        inline = {"name": "Accuracy", "evaluation_transformer_function": transformer("return model_output")}
        with pytest.raises(NotAllowedError, match="evaluation_transformer_function of Accuracy: this server runs no"):
            ask(server, server.request(name, WINDOWS, {model: [0]}, metrics=[inline]))
        with pytest.raises(NotAllowedError, match="evaluation_transformer_function of Accuracy: this server runs no"):
            check(server, name, [inline])
        installed = [{"name": "tests.helpers.metrics:always"}]
        said = ask(server, server.request(name, WINDOWS, {model: [0]}, metrics=installed))
        assert said.of("always") == {(model, 0): 0.5}
    finally:
        server.close()


def check(
    server: EvaluationServer, dataset: str, metrics: list[dict[str, Any]], root: Path | None = None
) -> dict[str, float]:
    """As if parser and model had been tried before."""
    result = server.peers.evaluator.CheckEvaluation(
        CheckEvaluationRequest(
            pipeline_id="p",
            dataset=dataset,
            data=to_value({"dataset_id": dataset, **PARSED}),
            model=to_value(MODEL),
            metrics=[to_value(metric) for metric in metrics],
            batch_size=8,
            threads=1,
            num_outputs=3,
            keys=KeySet.from_array(np.arange(8)).to_proto(),
            code=CodeOrigin(root=str(root)) if root else None,
        )
    )
    return {metric.name: metric.value for metric in result.metrics}


def test_they_are_tried_before_anything_is_trained(server: EvaluationServer, name: str, root: Path) -> None:
    """In a job, of course."""
    found = check(server, name, [{"name": "Accuracy"}, own("share"), own("process")], root)
    assert found["share"] == found["Accuracy"]
    assert found["process"] != os.getpid()
    with pytest.raises(InvalidInputError, match="metric my_metrics:returns returned 'high'; expected a number"):
        check(server, name, [own("returns", config={"value": "text"})], root)
    body = "return model_output.sum()"
    with pytest.raises(InvalidInputError, match="evaluation_transformer_function returned torch"):
        check(server, name, [{"name": "Accuracy", "evaluation_transformer_function": transformer(body)}])


# -------------------------------------------------------------------------------------------------------- configuration


def test_a_name_with_a_colon_is_a_function() -> None:
    assert doctest.testmod(user).failed == 0
    short = METRICS.parse({"name": "my.metrics:pinball", "config": {"quantile": 0.9}, "labels": "numbers"})
    long = {"name": "UserMetric", "function": "my.metrics:pinball", "config": {"quantile": 0.9}, "labels": "numbers"}
    assert METRICS.parse(long) == short
    assert METRICS.parse(METRICS.dump(short)) == short
    assert (short.result_name, short.needs_scores, short.labels_are) == ("pinball", True, "numbers")


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("{name: 'my_metrics:f', function: 'my_metrics:g'}", "both name code of your own; leave 'function' out"),
        ("{name: 'my_metrics:f', confg: {}}", r"unknown key \(did you mean 'config'\?\)"),
        ("{name: UserMetric, function: f}", "expected module:attribute, such as my_metrics:pinball"),
        ("{name: UserMetric}", "module:attribute of the function"),
        ("{name: 'my_metrics:f', result: 'F[1]'}", r"expected a name without '\['"),
        ("{name: 'my_metrics:'}", "no metric is named 'my_metrics:'"),
    ],
)
def test_wrong_configurations(metric: str, says: str) -> None:
    text = PIPELINE.replace("METRIC", metric)
    with pytest.raises(InvalidInputError, match=says) as caught:
        load_pipeline_text(text, "p.yaml")
    assert "evaluation.datasets[0].metrics[0]" in str(caught.value)


def test_the_page_about_them(server: EvaluationServer, root: Path) -> None:
    """Its YAML and code work as they stand there."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "own_metric.md").read_text()
    for code in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", page, flags=re.DOTALL):
        (root / code[1]).write_text(code[0])
    clicks, loads, recall = (
        EvaluationSection.model_validate(yaml.safe_load(text)["evaluation"]).datasets[0].metrics  # type: ignore[index]
        for text in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    )
    binary = {"id": "MLP", "config": {**MODEL["config"], "num_classes": 2}}
    name, model = server.dataset(LABELS % 2, np.arange(N), **FEATURES), server.model(1, binary)
    metrics = [METRICS.dump(metric) for metric in [*clicks, *recall]]
    said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, model=binary, root=root))
    assert not said.failures
    assert {metric for _, _, metric in said.values} == {"Accuracy", "cost", "Mean margin", "Recall-macro"}
    name, model = server.dataset(LABELS / 7, np.arange(N), **FEATURES), server.model(1, NUMBER)
    metrics = [METRICS.dump(metric) for metric in loads]
    said = ask(server, server.request(name, WINDOWS, {model: range(4)}, metrics=metrics, model=NUMBER, root=root))
    assert not said.failures
    assert len(said.of("pinball")) == 4


PIPELINE = """
pipeline: {name: p}
data: {dataset_id: d}
model: {id: MLP, config: {in_features: 4, num_classes: 3}}
trigger: {id: TimeTrigger, every: 1d}
evaluation:
  handlers: [{strategy: {type: SlicingEvalStrategy, eval_every: 1d}}]
  datasets: [{dataset_id: d, metrics: [METRIC]}]
"""


def test_triggers_run_none_of_them() -> None:
    """Their predictions are scored in the service."""
    inline = {"name": "Accuracy", "evaluation_transformer_function": transformer("return model_output")}
    for metric in ({"name": "my_metrics:f"}, inline):
        trigger = {
            "id": "PerformanceTrigger",
            "evaluation_interval": "1d",
            "metrics": [metric],
            "decision_criteria": {
                "low": {"id": "StaticPerformanceThresholdCriterion", "metric": "f", "metric_threshold": 0.5}
            },
        }
        tree = {**yaml.safe_load(PIPELINE.replace("METRIC", "{name: Accuracy}")), "trigger": trigger}
        with pytest.raises(InvalidInputError, match=r"runs code of your own, which only evaluations do"):
            load_pipeline_text(yaml.safe_dump(tree), "p.yaml")


def test_the_schema_takes_both_forms() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())

    def is_valid(metric: str) -> bool:
        return validator.is_valid(yaml.safe_load(PIPELINE.replace("METRIC", metric)))

    assert is_valid("{name: 'my_metrics:f', scores: true}")
    assert is_valid("{name: UserMetric, function: 'my_metrics:f', labels: numbers}")
    assert not is_valid("{name: 'my_metrics:f', function: 'my_metrics:f'}")
    assert not is_valid("{name: UserMetric}")
    assert not is_valid("{name: 'my_metrics:'}")
