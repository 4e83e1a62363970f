"""Measurements of training, one module a subject (see ``bench_training``)."""
