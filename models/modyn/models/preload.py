"""Importing this module imports everything a training or evaluation job uses, so that jobs forked from a process
that has it start fast. No torch operation runs here, and no thread is started: a fork would not survive it.
"""

from __future__ import annotations

import contextlib
import importlib

from modyn.core.errors import ModynError
from modyn.core.plugins.formats import FORMATS
from modyn.core.plugins.models import MODELS
from modyn.core.plugins.parsers import PARSERS

MODULES = (
    "torch",
    "torch._dynamo",  # what makes torch deterministic and the first optimizer of a process import it, for seconds
    "grpc._channel",  # gRPC and NumPy would import these in each job (0.1 s)
    "grpc.experimental",
    "numpy.ma",
    "safetensors.torch",
    "modyn.models.building",
    "modyn.models.decoding",
    "modyn.models.warm_up",
    "modyn.models.weights",
    "modyn.models.modules.mlp",
    "modyn.models.modules.resnet",
    "modyn.models.modules.small_cnn",
    "modyn.models.modules.tabular_mlp",
    "modyn.models.modules.text_classifier",
    "modyn.models.modules.yearbook",
    "modyn.models.workers",
)

for _module in MODULES:
    importlib.import_module(_module)

with contextlib.suppress(ImportError):  # where it is installed, Arrow would import it in each job (0.3 s)
    importlib.import_module("pandas")
    importlib.import_module("pyarrow.pandas_compat")

for _registry in (FORMATS, MODELS, PARSERS):  # formats: a job gets the whole data section, source included
    with contextlib.suppress(ModynError):  # a broken third-party plug-in is for the job to report
        _registry.names()  # looks through all installed distributions for plug-ins, once
