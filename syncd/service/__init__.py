"""The daemon: schedules syncs, has each prepared by a worker process without keys, and answers operators.

::

    run.py         ``syncd run``: takes the state, and hands signals to the daemon
    daemon.py      start, reload, stop
    scheduler.py   when each source is due (APScheduler)
    syncs.py       the syncs under way: one at a time per source, joined by whoever asks for the same
    worker.py      the process that fetches and stages, seen from the daemon; child.py, seen from inside
    control.py     the unix socket; client.py, its other end
    access.py      whose token is in force; checkins.py, what matchers have loaded; pulls.py, what they pulled
    news.py        what is new, for who waits for it
    web/           the HTTP side: feed, news, API, health
    reload.py      what a reload may change
    log.py         events, as JSON or readable
    life.py        what systemd is told: how the daemon stands, and that it lives; notify.py, how
"""
