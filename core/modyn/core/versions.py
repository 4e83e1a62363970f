"""Versions of every contract another program, file or person relies on."""

from __future__ import annotations

import re
from functools import cache

PIPELINE_SCHEMA_VERSION = 1
"""Of the pipeline YAML (``schema_version`` key, optional)."""

PROTOCOL_VERSION = 1
"""Of the rpcs; also the ``v1`` of the proto package ``modyn.v1``."""

REPORT_SCHEMA_VERSION = 4
"""Of ``report.json``; versions 1 to 3 are read too."""

SEGMENT_FORMAT_VERSION = 2
"""Of segment files on disk; version 1 is read too."""

TRAINING_SET_FORMAT_VERSION = 1
"""Of training-set files on disk."""

SAMPLE_COLUMNS_FORMAT_VERSION = 1
"""Of files with columns of samples on disk."""

OUTCOME_FORMAT_VERSION = 1
"""Of outcome files on disk."""

DATA_DIGEST_VERSION = 1
"""Of what digests of the samples that a score is of are made from."""

MODEL_DELTA_FORMAT_VERSION = 1
"""Of models that are stored as differences from others."""

CHECKPOINT_FORMAT_VERSION = 1
"""Of checkpoints of running trainings; only this version is read."""

# The catalog's version is kept by Alembic, one history per service.


@cache
def package_version() -> str:
    """Version of the installed ``modyn`` distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("modyn")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


_VERSION_FIELD = re.compile(r"^Version: *(.*?) *$", re.MULTILINE)


def distribution_version(name: str) -> str:
    """Version of an installed distribution, as it is now.

    The field is searched for in the metadata: reading all of them, as ``importlib.metadata.version`` does, takes
    milliseconds where they have a long description, and some are asked for several times for every training.

    Raises:
        importlib.metadata.PackageNotFoundError: it is not installed.
    """
    from importlib.metadata import distribution

    found = distribution(name)
    field = _VERSION_FIELD.search(found.read_text("METADATA") or "")
    return found.version if field is None else field[1]
