"""The downsampling strategy in a request."""

from __future__ import annotations

from modyn.core.config.problems import parse_plugin
from modyn.core.errors import InvalidInputError
from modyn.core.plugins.downsampling import DOWNSAMPLING_STRATEGIES, DownsamplingStrategy, NoDownsampling
from modyn.core.values import from_value
from modyn.proto.trainer_server_pb2 import TrainRequest


def strategy_of(request: TrainRequest) -> DownsamplingStrategy | None:
    """The downsampling strategy of a training; None: its whole set is trained.

    Raises:
        InvalidInputError: there is no such strategy, or a key of it is wrong.
    """
    if not request.HasField("downsampling"):
        return None
    tree = from_value(request.downsampling)
    what = "selection_strategy.downsampling_config"
    if not isinstance(tree, dict):
        raise InvalidInputError(f"{what}: expected a mapping")
    try:
        strategy = parse_plugin(DOWNSAMPLING_STRATEGIES, tree, what)
    except InvalidInputError as error:
        raise InvalidInputError(error.message if what in error.message else f"{what}: {error.message}") from error
    return None if isinstance(strategy, NoDownsampling) else strategy
