"""The daemon: schedules syncs, prepares each in a worker process without keys, and carries out operators' orders.

::

    run.py         ``syncd run``: locks the state, and passes signals to the daemon
    daemon.py      start, reload, stop
    leader_work.py  the regular work of a leader; fleet.py, the daemon's part among several; signers.py, its keys
    leading.py     who leads; following.py, news from the others; relay.py, orders to the leader
    reload.py      the check of a new configuration, and its differences
    scheduler.py   when each source is due (APScheduler)
    syncs.py       running syncs: one per source, joined by orders for the same
    worker.py      the process that fetches and stages, seen from the daemon; child.py, seen from inside
    control.py     the control socket; client.py, its other end
    orders.py      orders from the control socket
    list_orders.py  those that change lists, which commands also carry out without a daemon
    holds.py       the acts on holds; suppressions.py, on suppressions; list_events.py, the events of both
    questions.py   questions about the state, the long ones in processes of their own
    access.py      tokens in force; checkins.py, versions that matchers have loaded; pulls.py, what they pulled
    news.py        announcements to waiting clients
    faults.py      current storage failures; ballast.py, room to start on a full disk
    web/           HTTP: feed, event stream, API, health, dashboard
    metrics/       metrics for Prometheus
    log.py         the log: events as JSON, or as readable text
    systemd.py     readiness, status and watchdog for systemd
"""
