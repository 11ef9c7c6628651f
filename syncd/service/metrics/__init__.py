"""What Prometheus scrapes: ``docs/metrics.md`` explains every metric, ``monitoring/alerts.yml`` alerts on them.

::

    state.py       how everything stands, read anew at each scrape: right after a restart, and never out of date
    matchers.py    of that, who has loaded what
    expiry.py      certificates, and the metadata of partners
    activity.py    what happened since the start: counters and histograms, fed by the daemon's events
    web.py         the same of the HTTP side
    scrape.py      the registry that holds them all, and the route /metrics

Labels are names of sources, lists, matchers and roles, and words of closed sets; never an instance, a digest, an entry
id or a token.
"""
