"""The parts of ``bench_storage``: what is measured, and what it is compared with."""
