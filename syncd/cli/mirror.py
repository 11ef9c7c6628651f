"""``syncd mirror``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli import arguments
from syncd.cli.output import clean, flush, quiet_retries, say, utc_now
from syncd.fetch import Endpoint
from syncd.listen import Address
from syncd.matcher.check_in import checked_instance, host_instance
from syncd.settings import parse_duration


def mirror(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="The /feed/ of a daemon or mirror: https://, or http:// on this machine."),
    ],
    root: Annotated[Path, typer.Option(metavar="ROOT", help="The feed's trust root, obtained out of band.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="The folder of the mirror.")],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: any free port.")],
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", help="A file with the mirror's own token at the upstream.")
    ],
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain to serve with, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate authorities of the upstream, PEM.")
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Client certificate for the upstream, PEM.")
    ] = None,
    client_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    proxy: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The HTTP proxy to go through: http://HOST:PORT. The environment names none."),
    ] = None,
    metrics_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with the token that may read /metrics.")
    ] = None,
    max_streams: Annotated[int, typer.Option(metavar="N", min=1, help="Most open event streams.")] = 2000,
    interval: Annotated[str, typer.Option(metavar="TIME", help="How often to poll.")] = "1m",
    deadline: Annotated[str, typer.Option(metavar="TIME", help="Give up an update after this time.")] = "10m",
    instance: Annotated[
        str | None, typer.Option(metavar="NAME", help="The name to report to the operator. Default: host name.")
    ] = None,
) -> None:
    """Serve a feed from near its matchers, as the daemon does.

    Pulls every file of the feed at URL, verifies it with ROOT, and serves the same signed bytes, events included, to
    matchers and to further mirrors. It holds no key: a mirror that is taken over can delay what it serves, and learn
    it, but never alter it. Which matchers may read what is the upstream's word: a token that is made or revoked at the
    daemon counts here within a minute, usually at once. Check-ins are passed on, so that `syncd matchers` at the daemon
    shows every instance and the mirror it came by. The mirror's own token is made there with `syncd matchers add NAME
    --mirror`; its lists are those that the mirror serves.

    A new state is served once all of it is here. Until then, and while the upstream cannot be reached or serves
    something wrong, the state before is served. Events go to standard error, as those of `syncd run`. `/healthz` and
    `/readyz` need no token.

    \b
    Exit codes:
      0   stopped by SIGTERM or Ctrl-C
      1   storage, or the address is taken
      2   command line; DIR holds something else; TLS is missing
      4   the first update was rejected
      5   the first update failed: unreachable, refused, or deadline
      6   another process uses DIR

    \b
    Example:
      syncd mirror https://syncd.example.org/feed/ --root root.json \\
        --token-file token --dir /var/lib/syncd-mirror --listen 0.0.0.0:8470 \\
        --tls-cert cert.pem --tls-key key.pem
    """
    from syncd.mirror.mirror import MirrorSettings, run  # Starlette: not needed for the help
    from syncd.service.log import emitter
    from syncd.service.web.foreground import check_exposure, tls_files

    quiet_retries()
    host, port = arguments.address(listen)
    tls = tls_files(tls_cert, tls_key)
    check_exposure(host, tls=tls is not None, token=True)
    endpoint = Endpoint(
        url, arguments.token(token_file), ca=ca, client_cert=client_cert, client_key=client_key, proxy=proxy
    )
    settings = MirrorSettings(
        endpoint=endpoint,
        root=arguments.root(root),
        folder=folder,
        address=Address(host, port),
        tls=tls,
        instance=checked_instance(instance) if instance else host_instance(),
        interval=parse_duration(interval),
        deadline=parse_duration(deadline),
        metrics_token=arguments.token(metrics_token_file),
        max_streams=max_streams,
    )

    def announce(served: str) -> None:
        say(f"mirroring {clean(endpoint.host)} at {served}/feed/")
        flush()  # at once: what follows standard output waits for the address

    run(
        settings,
        announce=announce,
        emit=emitter(sys.stderr, utc_now),
        clock=utc_now,
    )
