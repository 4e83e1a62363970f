"""The command line, the Python client and the embedded server.

``from modyn.client import Client``; names are loaded when they are first used, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modyn.client.api import Client, LiveOptions, ReplayOptions
    from modyn.client.comparison import Comparison
    from modyn.client.loading import load_model
    from modyn.client.replaying import replay
    from modyn.client.results import PipelineResult, compare
    from modyn.client.server import EmbeddedServer, Server

__all__ = [
    "Client",
    "Comparison",
    "EmbeddedServer",
    "LiveOptions",
    "PipelineResult",
    "ReplayOptions",
    "Server",
    "compare",
    "load_model",
    "replay",
]

_HOMES = {
    "Client": "api",
    "LiveOptions": "api",
    "ReplayOptions": "api",
    "EmbeddedServer": "server",
    "Server": "server",
    "load_model": "loading",
    "Comparison": "comparison",
    "PipelineResult": "results",
    "compare": "results",
    "replay": "replaying",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
