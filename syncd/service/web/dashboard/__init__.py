"""The dashboard: pages rendered on the server, kept up to date by a stream of events.

::

    routes.py     requests and answers; signing in and out
    guard.py      headers, cookies, forms
    sessions.py   who is signed in
    desk.py       acting: the pages of acts, and the checks of their forms
    actions.py    acts: their forms, and those on holds and sources
    corrections.py  the acts on suppressions
    rollbacks.py  the acts on the version of a list
    live.py       the stream of changes
    assets.py     style sheet, script, icon
    reading.py    reads the data of each page from the catalog
    overview.py   the pages: everything at a glance
    details.py    one list, one source
    holds.py      the holds
    fleet.py      the matchers
    acts.py       the audit log
    tasks.py      what needs a person
    parts.py      tables, times, states
    chart.py      rows over time, as a figure
    plot.py       its coordinates
    frame.py      header and footer of every page; the sign-in page
    html.py       builds markup, and escapes all other text
"""

from syncd.service.web.dashboard.routes import Dashboard

__all__ = ["Dashboard"]
