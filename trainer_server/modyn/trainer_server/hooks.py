"""The callbacks of a training: built, called in the order of the YAML, and blamed by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.callbacks import CALLBACKS, Callback, TrainingEvents, TrainingView
from modyn.models.usercode import describe_error, load_attribute

KEY = "training.callbacks"


@dataclass(frozen=True)
class Named:
    """A callback and what it is called in messages."""

    name: str
    events: TrainingEvents


class Hooks:
    """Calls all callbacks of a training. An event that none of them listens to costs nothing: ask :meth:`on` first."""

    def __init__(self, callbacks: Sequence[Named] = ()) -> None:
        self._callbacks = tuple(callbacks)
        self._listeners = {event: self._listening(event) for event in _EVENTS}

    @staticmethod
    def build(callbacks: Iterable[Callback | str], root: str | None) -> Hooks:
        """
        Args:
            callbacks: of the ``training`` section.
            root: folder that the user's own may be imported from, or None.

        Raises:
            InvalidInputError: a callback cannot be loaded or built, or is none.
        """
        return Hooks([_built(i, callback, root) for i, callback in enumerate(callbacks)])

    def on(self, event: str) -> bool:
        """Whether a callback listens to an event, such as ``on_batch_end``."""
        return bool(self._listeners[event])

    def call(self, event: str, view: TrainingView, *details: Any) -> None:
        """Tells all who listen.

        Raises:
            InvalidInputError: a callback raised; the message names it and the line.
        """
        for callback in self._listeners[event]:
            try:
                getattr(callback.events, event)(view, *details)
            except (ModynError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise InvalidInputError(f"{callback.name}: {event} raised {describe_error(error)}") from error

    def state(self) -> dict[str, Any]:
        """For checkpoints."""
        return {str(i): callback.events.state() for i, callback in enumerate(self._callbacks)}

    def resume(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`state` gave."""
        for i, callback in enumerate(self._callbacks):
            callback.events.resume(state[str(i)])

    def _listening(self, event: str) -> tuple[Named, ...]:
        silent = getattr(TrainingEvents, event)
        return tuple(c for c in self._callbacks if getattr(type(c.events), event) is not silent)


_EVENTS = ("on_begin", "on_batch_begin", "on_before_step", "on_batch_end", "on_epoch_end", "on_end")


def _built(position: int, callback: Callback | str, root: str | None) -> Named:
    if isinstance(callback, Callback):
        return Named(f"{KEY}[{position}] ({CALLBACKS.key}: {callback.plugin_name})", callback.build())
    name = f"{KEY}[{position}] ({callback})"
    build = load_attribute(callback, root)
    if not callable(build):
        raise InvalidInputError(f"{name} is a {type(build).__name__}; expected a class or a function without arguments")
    try:
        events = build()
    except ModynError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{name} raised {describe_error(error)}; it is called without arguments") from error
    if isinstance(events, Callback):  # a plug-in that was named by its class
        events = events.build()
    if not isinstance(events, TrainingEvents):
        raise InvalidInputError(
            f"{name} gave a {type(events).__name__}; expected a subclass of "
            "modyn.core.plugins.callbacks.TrainingEvents, or a function that returns one"
        )
    return Named(name, events)
