"""``syncd feed serve``."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli import arguments
from syncd.cli.arguments import Feed
from syncd.cli.output import clean, utc_now
from syncd.event import Event
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.listen import Address


def serve(
    feed: Feed,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: any free port.")],
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answer only requests with the token in FILE.")
    ] = None,
) -> None:
    """Serve a feed over HTTP until stopped.

    Serves metadata, manifests, segments, evidence and root.json, and no other file. Listening beyond this machine
    requires TLS and a token. Any web server can serve these plain files instead. Requests are not logged.

    \b
    Exit codes:
      0   stopped by SIGTERM or Ctrl-C
      1   the address is taken
      2   FEED is not a feed, or TLS or the token is missing

    \b
    Example:
      syncd feed serve /srv/feed --listen 127.0.0.1:8470
      syncd feed serve /srv/feed --listen 0.0.0.0:443 \\
        --tls-cert cert.pem --tls-key key.pem --token-file token
    """
    from syncd.service.web import partner  # Starlette: not needed for the help

    host, port = arguments.address(listen)
    token = arguments.token(token_file)
    load_repository(FeedFolder(feed))

    def announce(url: str) -> None:
        typer.echo(f"serving {clean(str(feed))} at {url}")

    def emit(event: Event) -> None:
        for line in partner.in_words(event):
            with suppress(OSError):  # standard error may be closed: keep serving
                typer.echo(clean(line, sys.stderr), err=True)

    partner.serve(
        feed,
        Address(host, port),
        token=token,
        tls_cert=tls_cert,
        tls_key=tls_key,
        announce=announce,
        emit=emit,
        clock=utc_now,
    )
