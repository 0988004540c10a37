"""The code fingerprint: what a stage's result depends on, as named hashes.

Three layers. *Values*: after the pipeline is imported, everything that a stage's function can
reach at run time is hashed, object by object (`_graph`, `_encoder`). *Witness*: what the import
read and looked for, so that the result can be reused without Python (`_witness`). *Observation*:
what really ran, read during a stage (`_observe`, `_extras`).

The helper inspects with `_inspection.Inspection` and runs stages with `_observation.Observation`.
This package imports nothing by itself, as neither needs all of it. Start reading at `_inspection`,
then `_manifest` and `_graph`.
"""
