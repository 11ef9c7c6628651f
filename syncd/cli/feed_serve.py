"""``syncd feed serve``."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli import arguments
from syncd.cli.arguments import Feed
from syncd.cli.output import clean, utc_now
from syncd.errors import SyncdError, UsageError
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
    tokens: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The tokens of members: one file each, named like the member.")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Print a line for each request.")] = False,
) -> None:
    """Serve a feed over HTTP until stopped.

    Serves metadata, manifests, segments, evidence and root.json, and no other file. Listening beyond this machine
    requires TLS and a token. Any web server can serve these plain files instead.

    Each file in the DIR of --tokens has one token per line; two while a token is being replaced. Changes there take
    effect within seconds: a new file admits a member, and a member whose file is removed is refused. Wrong tokens are
    reported; an address may send ten a minute. --log prints time, member, address, method, path, status and bytes;
    tokens are never printed.

    \b
    Exit codes:
      0   stopped by SIGTERM or Ctrl-C
      1   the address is taken
      2   FEED is not a feed, TLS or a token is missing, or a token file is bad

    \b
    Example:
      syncd feed serve /srv/feed --listen 127.0.0.1:8470
      syncd feed serve /srv/feed --listen 0.0.0.0:443 \\
        --tls-cert cert.pem --tls-key key.pem --tokens /etc/feed/members --log
    """
    from syncd.service.web import partner  # Starlette: not needed for the help
    from syncd.service.web.members import Members

    host, port = arguments.address(listen)
    if token_file and tokens:
        raise UsageError("--token-file and --tokens exclude each other", hint="put the token into a file in --tokens")
    members = Members(arguments.token(token_file), tokens)
    load_repository(FeedFolder(feed))

    def announce(url: str) -> None:
        typer.echo(f"serving {clean(str(feed))} at {url}")

    def emit(event: Event) -> None:
        for line in partner.in_words(event):
            complain(line)

    def warn(error: SyncdError) -> None:
        complain(f"error: {error.message}")
        if error.serving:
            complain(f"  still in use: {error.serving}")
        complain(f"  to do: {error.hint}")

    def complain(line: str) -> None:
        with suppress(OSError):  # standard error may be closed: keep serving
            typer.echo(clean(line, sys.stderr), err=True)

    def print_line(line: str) -> None:
        with suppress(OSError):
            typer.echo(clean(line))

    partner.serve(
        feed,
        Address(host, port),
        members=members,
        tls_cert=tls_cert,
        tls_key=tls_key,
        announce=announce,
        warn=warn,
        log=print_line if log else None,
        emit=emit,
        clock=utc_now,
    )
