"""Questions about a state: answered in the same way for its owner and, through the control socket, for operators.

::

    question.py    a question, and what it may read
    questions.py   every question by name; to add one, add a line there
    versions.py    published versions and their differences
    lookup.py      look-ups in the published lists
    explain.py     why a digest matches, or matched
    audit.py       the audit log; audit_filters.py reads its filters as people type them
    times.py       times as people type them
    proof.py       the verification of everything on disk
    child.py       a process that answers one long question for the daemon
"""
