"""The HTTP side of the daemon: the feed, the API, health.

::

    server.py      uvicorn in a thread of its own: listening, stopping
    connection.py  one connection: its limits, and an end to those who take or send nothing
    tls.py         certificates, read again without a restart
    app.py         puts the routes together
    context.py     what routes are given
    feed.py        the feed's files, from memory where they are asked for all the time
    events.py      the stream of news
    api.py         the rest, and its OpenAPI document
    health.py      whether what is stored is proved, and served
"""
