"""How a pipeline is run, as asked for at submission."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from modyn.core.config.pipeline import DataSection, PipelineConfig, evaluation_datasets
from modyn.core.errors import InvalidInputError, NotAllowedError
from modyn.core.locations import is_uri
from modyn.core.plugins.triggers import Trigger
from modyn.core.report import BaselineKind
from modyn.proto import supervisor_pb2 as pb
from modyn.supervisor.triggers import DataDriftTrigger, EnsembleTrigger


@dataclass(frozen=True)
class RunOptions:
    """Replay of a stretch of the dataset, or live.

    Attributes:
        start, stop: event time [start, stop) of a replay; arrival time with ``order="arrival"``.
        start_key, end_key: keys [start_key, end_key); a live run starts at ``start_key``.
        code_root: folder that user code may be imported from.
        base_path: folder that relative source paths refer to.
        simulate: only the trigger runs; nothing is trained.
        baseline, baseline_of: which baseline of which pipeline it is.
    """

    live: bool = False
    order: Literal["event", "arrival"] = "event"
    start: int | None = None
    stop: int | None = None
    start_key: int | None = None
    end_key: int | None = None
    maximum_triggers: int | None = None
    reuse: bool = True
    code_root: str | None = None
    base_path: str | None = None
    simulate: bool = False
    baseline: BaselineKind | None = None
    baseline_of: int | None = None

    @staticmethod
    def from_request(request: pb.SubmitPipelineRequest, *, allow_user_code: bool) -> RunOptions:
        """Checked options.

        Raises:
            InvalidInputError: a value is out of range.
            NotAllowedError: a code root or base path on a server that does not accept user code.
        """
        root = request.code.root if request.code.HasField("root") else None
        base = request.base_path if request.HasField("base_path") else None
        if (root or base) and not allow_user_code:
            raise NotAllowedError(
                "this server does not accept code or relative paths from clients; install the code there as a package, "
                "write absolute paths, or start it with `modyn serve --allow-user-code`"
            )
        maximum = request.maximum_triggers if request.HasField("maximum_triggers") else None
        if maximum is not None and maximum < 1:
            raise InvalidInputError(f"--maximum-triggers {maximum}: expected at least 1")
        common: dict[str, object] = {
            "maximum_triggers": maximum,
            "reuse": request.reuse,
            "code_root": root,
            "base_path": base,
            "simulate": request.simulate,
            **_baseline_options(request),
        }
        if request.WhichOneof("mode") == "live":
            if request.simulate:
                raise InvalidInputError("a simulation runs over the history of a dataset; leave --live out")
            start_key = request.live.start_key if request.live.HasField("start_key") else None
            _check_keys(start_key, None)
            # What has arrived is seen in key order.
            return RunOptions(live=True, order="arrival", start_key=start_key, **common)  # type: ignore[arg-type]
        return _replay_options(request.replay, common)

    def check_paths(self, config: PipelineConfig) -> None:
        """
        Raises:
            InvalidInputError: a source is relative to a folder that the server does not know.
        """
        sections: dict[str, DataSection] = {"data": config.data}
        sections |= {f"evaluation.datasets[{i}]": data for i, data in enumerate(evaluation_datasets(config))}
        for name, data in sections.items():
            if data.source is not None:
                self.resolve(data.source.path, f"{name}.source.path")

    def check_trigger(self, trigger: Trigger) -> None:
        """
        Raises:
            InvalidInputError: a simulation of a trigger that cannot decide without trained models.
        """
        if not self.simulate:
            return
        for place, part in _parts(trigger, "trigger"):
            _check_simulated(place, part)

    def resolve(self, path: str, key: str) -> str:
        """The absolute form of a path in the pipeline."""
        if Path(path).is_absolute() or is_uri(path):
            return path
        if self.base_path is None:
            raise InvalidInputError(f"{key}: path {path!r} is relative; a server needs an absolute path")
        return str(Path(self.base_path) / path)


def _baseline_options(request: pb.SubmitPipelineRequest) -> dict[str, object]:
    if not request.HasField("baseline_of"):
        if request.baseline:
            raise InvalidInputError(f"baseline {request.baseline!r} without baseline_of: expected the pipeline's id")
        return {}
    if request.baseline not in get_args(BaselineKind):
        expected = ", ".join(get_args(BaselineKind))
        raise InvalidInputError(f"baseline {request.baseline!r}: expected one of {expected}")
    if request.simulate or request.WhichOneof("mode") == "live":
        raise InvalidInputError(
            "a baseline is trained on what the other pipeline saw; replay it, not --live or simulated"
        )
    return {"baseline": request.baseline, "baseline_of": parse_id(request.baseline_of)}


def parse_id(text: str) -> int:
    """
    Raises:
        InvalidInputError: it is no id.
    """
    if not text.isdecimal():
        raise InvalidInputError(f"pipeline id {text!r}: expected a number, as `modyn-client list` shows")
    return int(text)


def _replay_options(replay: pb.Replay, common: dict[str, object]) -> RunOptions:
    start = replay.start if replay.HasField("start") else None
    stop = replay.stop if replay.HasField("stop") else None
    if start is not None and stop is not None and stop <= start:
        raise InvalidInputError(f"--stop-replay-at {stop} must be later than --start-replay-at {start}")
    start_key = replay.start_key if replay.HasField("start_key") else None
    end_key = replay.end_key if replay.HasField("end_key") else None
    _check_keys(start_key, end_key)
    return RunOptions(
        order="arrival" if replay.order == pb.Replay.ARRIVAL else "event",
        start=start,
        stop=stop,
        start_key=start_key,
        end_key=end_key,
        **common,  # type: ignore[arg-type]
    )


def _check_keys(start_key: int | None, end_key: int | None) -> None:
    if start_key is not None and start_key < 0:
        raise InvalidInputError(f"--start-key {start_key}: expected 0 or more")
    if end_key is not None and end_key <= (start_key or 0):
        raise InvalidInputError(f"--end-key {end_key} must be larger than the start key {start_key or 0}")


def _parts(trigger: Trigger, place: str) -> Iterator[tuple[str, Trigger]]:
    """A trigger, or the subtriggers that it consists of, with their places in the file."""
    if not isinstance(trigger, EnsembleTrigger):
        yield place, trigger
        return
    for name, part in trigger.subtriggers.items():
        yield from _parts(part, f"{place}.subtriggers.{name}")


def _check_simulated(place: str, trigger: Trigger) -> None:
    if trigger.needs_model:
        drift = isinstance(trigger, DataDriftTrigger)
        hint = "Drift of raw columns can be (features: columns), or run" if drift else "Run"
        raise InvalidInputError(
            f"{place}: {trigger.plugin_name} asks trained models what they say of the data, so it cannot be simulated "
            f"without training. {hint} the pipeline"
        )
    if trigger.needs_costs:
        raise InvalidInputError(
            f"{place}: {trigger.plugin_name} decides by what trainings take, so it cannot be simulated without "
            "training. State it with cost_model: {seconds_per_sample: …}, or run the pipeline"
        )
