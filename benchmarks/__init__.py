"""Measurements: one module per question, run by `make bench` or `python -m benchmarks [NAME...]`.

A benchmark is a module with a docstring (its first paragraph is the question, the rest says how it is measured) and
one function, ``measure(settings) -> Table``; it is entered in `BENCHMARKS`. Nothing here asserts a time: the numbers
depend on the machine, and the page that they are written to describes it.
"""

BENCHMARKS = (
    "verdicts",
    "throughput",
    "interleavings",
    "three_jobs",
    "peers",
    "growth",
    "stored_rows",
    "suite",
    "certify",
    "replays",
    "repeated",
    "plugin_cost",
    "campaigns",
    "stress_load",
    "stress_memory",
)
"""In the order of the page."""
