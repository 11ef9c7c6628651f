"""Fuzzing by coverage: one module for each parser of foreign bytes, with a function ``one`` that takes them.

`one` may raise `SyncdError`; any other exception is a fault. ``corpus/TARGET`` has inputs to begin with, among them
each that once found a fault. ``python -m fuzz --help`` says how to run a target by hand.
"""
