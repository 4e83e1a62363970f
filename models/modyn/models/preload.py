"""Importing this module imports everything a training or evaluation job uses, so that jobs forked from a process
that has it start fast. No torch operation runs here, and nothing starts a thread: a fork would not survive it.
"""

from __future__ import annotations

import contextlib

import safetensors.torch
import torch
import torch._dynamo

import modyn.models.modules.mlp
import modyn.models.modules.resnet
import modyn.models.modules.small_cnn
import modyn.models.weights
from modyn.core.errors import ModynError
from modyn.core.plugins.models import MODELS
from modyn.core.plugins.parsers import PARSERS
from modyn.models import building, decoding

__all__ = ["building", "decoding", "modyn", "safetensors", "torch"]

for _registry in (MODELS, PARSERS):
    with contextlib.suppress(ModynError):  # a broken third-party plug-in is for the job to report
        _registry.names()  # looks through all installed distributions for plug-ins, once
