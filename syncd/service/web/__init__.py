"""HTTP: the daemon's feed, API and dashboard, and the server of a partner's feed.

::

    server.py      the server, for the daemon and for `syncd feed serve`: uvicorn in its own thread
    connection.py  one connection; drops clients that send or take nothing
    limits.py      how many connections, and how long
    boundary.py    refuses connections over the limit; answers a bug with 500
    tls.py         certificates, read again without a restart
    partner.py     `syncd feed serve`
    site.py        the daemon's HTTP side: start, stop, reload, tokens
    app.py         puts the daemon's routes together
    context.py     the parts of the daemon that routes use
    files.py       the files of a feed, from memory if possible
    feed.py        who may read them, and counting pulls
    events.py      the stream of publications
    api.py         the other routes, and the OpenAPI document
    described.py   the routes that FastAPI does not know, for that document
    answers.py     answers that are prepared once
    health.py      proof of the stored files, and readiness
    dashboard/     pages for people
"""
