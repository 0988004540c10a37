"""Tests of the Python half of Pivot: ``python -m unittest discover -s python/tests``."""
