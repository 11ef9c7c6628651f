"""The road of an update, and nothing else: plan, prepare, stage, recount, gate, compose, settle, publish, sync.

Each step is a module; they hand on the types in ``values``.
"""
