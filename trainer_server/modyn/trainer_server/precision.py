"""Automatic mixed precision as the ``training`` section says."""

from __future__ import annotations

import torch

from modyn.core.config.pipeline import TrainingSection
from modyn.core.errors import InvalidInputError


def lower_precision(section: TrainingSection, device: torch.device) -> torch.dtype | None:
    """What forward passes compute with where they may; None: the type of the weights.

    By default float16 on a GPU and bfloat16 on a CPU, which has no fast float16.
    """
    if not section.amp:
        return None
    if section.amp_dtype is not None:
        return torch.float16 if section.amp_dtype == "float16" else torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def loss_scaler(section: TrainingSection, device: torch.device) -> torch.amp.GradScaler:
    """Scales losses in float16, whose small gradients would be zero otherwise; bfloat16 needs none.

    Raises:
        InvalidInputError: it does not take ``grad_scaler_config``.
    """
    enabled = lower_precision(section, device) is torch.float16
    try:
        return torch.amp.GradScaler(device.type, **{"enabled": enabled, **(section.grad_scaler_config or {})})
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidInputError(f"training.grad_scaler_config: {error}") from error
