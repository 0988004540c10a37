"""Declare the stages of a Pivot pipeline.

A stage is a function together with the files that it reads and writes::

    from pivot import stage

    @stage(deps=["data.csv"], outs=["processed.parquet"])
    def preprocess(input_file: str = "data.csv"):
        ...

This package only records what a pipeline declares; the ``pivot`` program decides what to run
and runs it. It needs nothing but the standard library, and importing it costs next to nothing.
"""

from pivot._declare import IncrementalOut, Metric, Out, Pipeline, Plot, Variant, stage
from pivot._errors import PivotError

__all__ = [
    "IncrementalOut",
    "Metric",
    "Out",
    "Pipeline",
    "PivotError",
    "Plot",
    "Variant",
    "stage",
]

__version__ = "0.1.0"
