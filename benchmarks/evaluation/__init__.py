"""Measurements of evaluation, one module a subject (see ``bench_evaluation``)."""
