"""Messages as trees of plain values, for JSON columns."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message


def plain(message: Message) -> dict[str, Any]:
    """The fields that are set, by name: whole numbers, floats, strings, lists and dicts.

    The constructor of the message's class takes them back. (``google.protobuf.json_format`` makes text of 64-bit
    numbers, which JSON columns hold as they are.)

    >>> from modyn.proto.trainer_server_pb2 import DownsamplingResult, TrainResult
    >>> result = TrainResult(batches=2**53, downsampling=DownsamplingResult(trained="1f", auxiliary_models=["2e"]))
    >>> plain(result)
    {'batches': 9007199254740992, 'downsampling': {'trained': '1f', 'auxiliary_models': ['2e']}}
    >>> TrainResult(**plain(result)) == result
    True
    """
    return {field.name: _plain(value) for field, value in message.ListFields()}


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bool | int | float | str):
        return value
    return [_plain(item) for item in value]
