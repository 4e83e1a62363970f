"""Built-in parsers: one import line per plug-in."""

from modyn.models.parsers import columns, image, numeric_record, text

__all__ = ["columns", "image", "numeric_record", "text"]
