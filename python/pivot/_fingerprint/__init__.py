"""The code fingerprint: what a stage's result depends on, as named hashes.

Three layers. *Values*: after the pipeline is imported, everything that a stage's function can
reach at run time is hashed, object by object (`_graph`, `_encoder`). *Witness*: what the import
read and looked for, so that the result can be reused without Python (`_witness`). *Observation*:
what really ran, read during a stage (`_observe`, `_extras`).

What the rest of the helper calls are the sessions, `_inspection.Inspection` for the first two and
`_observation.Observation` for the third. This package itself imports nothing, as each of its
processes needs only a part. Start reading at `_inspection`, then `_manifest` and `_graph`.
"""
