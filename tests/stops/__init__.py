"""A crash harness: real commands, stopped before, in and after every call that changes a file, and failed at each.

`stops.stories` says what is tried and what must hold afterwards, `stops.run` tries it, and ``interpose.c`` is the
library that stops a process. ``python -m stops --help`` says how to run it by hand.
"""
