"""Import-time effects."""
from __future__ import annotations
class Effects:
    def __init__(self, graph): self.graph=graph
    def of_stage(self, reached, module, mode): return [], []
