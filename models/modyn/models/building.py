"""Models from the ``model`` section: by id of the zoo, or the user's own by ``module:attribute``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from modyn.core.config.inline import is_reference
from modyn.core.config.pipeline import ModelSection
from modyn.core.config.problems import parse_plugin
from modyn.core.errors import InvalidInputError, ModynError
from modyn.core.plugins.models import MODELS
from modyn.models.usercode import describe_error, load_attribute

if TYPE_CHECKING:
    import torch

_PUBLISHED_PARAMETERS = ("model_configuration", "device", "amp")
"""Constructor of the published system's model classes, whose attribute ``model`` is the module."""


def build_model(model: ModelSection, root: str | None) -> torch.nn.Module:
    """A freshly initialised module on the CPU; random numbers come from torch's global generator.

    Args:
        model: its id and config.
        root: folder that user models may be imported from, or None.

    Raises:
        InvalidInputError: no such model, or its config is wrong.
    """
    if is_reference(model.id):
        return _user_model(model, root)
    return parse_plugin(MODELS, {**model.config, "id": model.id}, "model.config").build()


def _user_model(model: ModelSection, root: str | None) -> torch.nn.Module:
    import torch

    builder = load_attribute(model.id, root)
    if not callable(builder):
        raise InvalidInputError(
            f"model.id: {model.id!r} is a {type(builder).__name__}; expected a class or function that returns a module"
        )
    try:
        built: Any
        built = builder(model.config, "cpu", False).model if _is_published(builder) else builder(**model.config)
    except ModynError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"model {model.id!r} cannot be built from model.config {model.config}: {describe_error(error)}"
        ) from error
    if not isinstance(built, torch.nn.Module):
        raise InvalidInputError(f"model {model.id!r} returned a {type(built).__name__}; expected a torch.nn.Module")
    return built


def _is_published(builder: Any) -> bool:
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        return False
    return all(name in parameters for name in _PUBLISHED_PARAMETERS)
