"""The dashboard: pages made on the server, kept up to date by a stream of events.

::

    routes.py     requests and answers; signing in and out
    guard.py      headers, cookies, forms
    sessions.py   who is signed in
    live.py       the stream
    assets.py     style sheet, script, icon
    reading.py    what each page needs, from the catalog
    overview.py   the pages: everything at once
    details.py    one list, one source
    fleet.py      the matchers
    found.py      what they show
    tasks.py      what needs a person
    parts.py      tables, times, states
    chart.py      rows over time, laid out by
    plot.py       where to draw what
    frame.py      what is around every page
    html.py       markup that cannot be forged
"""

from syncd.service.web.dashboard.routes import Dashboard

__all__ = ["Dashboard"]
