"""Metrics for Prometheus: ``docs/metrics.md`` explains each of them, ``syncd/alerts.yml`` alerts on them.

::

    state.py       gauges of the state, read at each scrape, so that they are right after a restart and never stale
    matchers.py    gauges of matchers: loaded versions, silent instances
    expiry.py      certificates, and the metadata of partners
    activity.py    events since the start, as counters and histograms
    traffic.py     HTTP requests, connections and event streams
    scrape.py      all metrics of the daemon
    exposition.py  the registry of a server, and the route /metrics

Labels are names of sources, lists, matchers and roles, and values of closed sets; never an instance, a digest, an entry
id or a token.
"""
