"""The publishing side: ``syncd feed ...``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli import arguments
from syncd.cli.output import JsonFlag, clean, note, print_json, progress, say, utc_now
from syncd.units import count, stamp

if TYPE_CHECKING:
    from syncd.publish.author import Published

app = typer.Typer(rich_markup_mode=None)

Feed = Annotated[Path, typer.Argument(metavar="FEED", help="The folder of the feed.")]
OnlineKeys = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The keys that sign day by day; default: FEED.keys, beside FEED."),
]
SignWith = Annotated[
    list[str] | None, typer.Option(metavar="FILE", help="A key of a list with keys of its own; may be repeated.")
]
_OPERATORS = "`syncd sync` alone publishes there; rows of your own go into a feed of their own, as one more source"


@app.callback(invoke_without_command=True)
def _feed(context: typer.Context) -> None:
    """Publish signed hash lists, as partners do."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("init")
def init(
    feed: Feed,
    offline_keys: Annotated[
        Path, typer.Option(metavar="DIR", help="The keys that stay off this machine; made where DIR has none.")
    ],
    online_keys: OnlineKeys = None,
    keys: Annotated[
        int, typer.Option(min=1, max=arguments.MOST_KEYS, help="How many root keys to make; 3 is usual.")
    ] = 1,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; 2 is usual.")] = 1,
) -> None:
    """Make a feed folder, its keys, and its trust root.

    FEED/root.json is the trust root: hand it to those who follow the feed, by another way than the feed itself.
    The offline keys sign only new keys: keep DIR on a stick in a safe. With --keys 3 --threshold 2 one of three may be
    lost or stolen, and nothing is lost. Nothing is ever overwritten.

    \b
    Exit codes:
      0   made
      1   storage
      2   a feed is there already, or keys would lie in it
      6   refused

    \b
    Example:
      syncd feed init /srv/feed --offline-keys /media/keys --keys 3 --threshold 2
    """
    from syncd.publish import author

    online = online_keys or author.keys_folder(feed)
    root = author.init(feed, offline_keys, online, count=keys, threshold=threshold, now=utc_now())
    say(f"feed          {feed}")
    say(f"trust root    {root}  (hand it out, not through the feed)")
    say(f"offline keys  {offline_keys}  (take them off this machine)")
    say(f"online keys   {online}  (publishing needs them here)")
    say(f"next: syncd feed publish {feed} --list NAME --full FILE")


@app.command("publish")
def publish(
    feed: Feed,
    name: Annotated[str, typer.Option("--list", metavar="L", help="The list.")],
    full: Annotated[Path | None, typer.Option(metavar="FILE", help="The whole list as it shall be.")] = None,
    add: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows to add, or to give another label.")] = None,
    remove: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows to remove.")] = None,
    new: Annotated[
        bool, typer.Option("--new", help="This is the first version of one more list; refused for one that exists.")
    ] = False,
    skip_bad: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on past bad rows and write them, with reasons, to FILE.")
    ] = None,
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Publish the next version of a list.

    Files are CSV with a header, or NDJSON: algorithm,digest,entry,label. Only algorithm and digest are needed.
    A row to remove may give the entry alone, or the digest alone for all its entries. --full is compared with what is
    published, and followers fetch the difference only. Where nothing differs, nothing is published.
    A bad row stops everything, named by file, line and column, unless --skip-bad is given.
    One more list in a feed that has some is made with --new, so that a slip in a name makes none.

    \b
    Exit codes:
      0   published, or nothing to publish
      1   storage
      2   a bad row or command line, or no such list and no --new
      6   the feed is in use, or the keys are not at hand

    \b
    Example:
      syncd feed publish /srv/feed --list images --full all.csv
      syncd feed publish /srv/feed --list images --add new.csv --remove gone.csv
    """
    from syncd.feed.folder import FeedFolder
    from syncd.listfile import ListFiles
    from syncd.model import list_name
    from syncd.publish import author
    from syncd.publish.rotate import finish, online_signers, refuse_operators

    folder = FeedFolder(feed)
    files = ListFiles(full, add, remove, skip_bad)
    author.keep_apart(feed, *filter(None, [skip_bad]))
    listed = list_name(name)
    refuse_operators(feed, _OPERATORS)
    finish(folder)
    signers = online_signers(folder, online_keys or author.keys_folder(feed), sign_with or ())
    with progress(f"publishing {listed}") as tell:
        read = partial(files.read, progress=lambda done, total: tell("reading", done, total))
        done = author.publish_batch(folder, listed, read, signers, utc_now(), new=new)
    if done.skipped:
        note(f"{count(done.skipped, 'bad row')} left out: see {skip_bad}")
    if as_json:
        print_json(_published_document(done))
    else:
        _show_published(done)


@app.command("compact")
def compact(
    feed: Feed,
    names: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="A list; may be repeated. Default: all.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fold each list into a single base, due or not.")] = False,
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Fold deltas that have come together, so that look-ups stay quick.

    `syncd feed publish` does this by itself where it is due. The content stays the same; it is published as a version
    of its own, and followers that hold the deltas fold them without downloading anything.

    \b
    Exit codes:
      0   folded, or nothing was due
      1   storage, or a segment on this disk is damaged
      2   command line
      6   the feed is in use, or the keys are not at hand

    \b
    Example:
      syncd feed compact /srv/feed --all
    """
    from syncd.feed import layout
    from syncd.feed.folder import FeedFolder
    from syncd.feed.signed import load_repository
    from syncd.model import list_name
    from syncd.publish import author
    from syncd.publish.rotate import finish, online_signers, refuse_operators

    folder = FeedFolder(feed)
    refuse_operators(feed, _OPERATORS)
    finish(folder)
    published = map(layout.list_of, load_repository(folder).targets())
    chosen = [list_name(one) for one in names] if names else sorted(filter(None, published))
    signers = online_signers(folder, online_keys or author.keys_folder(feed), sign_with or ())
    folded = {name: author.compact(folder, name, signers, utc_now(), everything=everything) for name in chosen}
    if as_json:
        versions = {name: manifest.version if manifest else None for name, manifest in folded.items()}
        print_json({"lists": [{"list": name, "folded": versions[name]} for name in versions]})
        return
    for name, manifest in folded.items():
        say(f"{name}: nothing to fold" if manifest is None else f"{name} version {manifest.version}: folded")


def _published_document(done: "Published") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "list": done.list,
        "version": done.version,
        "changed": done.changed,
        "rows": done.rows,
        "counts": {str(algorithm): asdict(counts) for algorithm, counts in done.counts.items()},
        "skipped": done.skipped,
        "needless": done.needless,
    }


def _show_published(done: "Published") -> None:
    if not done.changed:
        say(f"{done.list} is up to date: version {done.version}, {count(done.rows, 'row')}")
        return
    say(f"{done.list} version {done.version} published: {count(done.rows, 'row')}")
    for algorithm, counts in sorted(done.counts.items()):
        say(f"  {algorithm}: {counts.added:,} added, {counts.removed:,} removed, {counts.relabelled:,} relabelled")
    if done.needless:
        say(f"  {count(done.needless, 'row')} asked for nothing: adds of what is there, or removals of what is not")


@app.command("retire")
def retire(
    feed: Feed,
    name: Annotated[str, typer.Option("--list", metavar="L", help="The list.")],
    reason: Annotated[str, typer.Option(metavar="R", help="Why; repeated in the answer, and published nowhere.")],
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """End a list: publish that it is no longer published.

    Its next version is empty and says since when the list is retired. Matchers that follow the feed go on without it
    and say so for seven days; at an operator's that follows it, an operator has to release it first. Tell your
    followers why, and which list takes its place. `syncd feed publish` makes it a list again.

    \b
    Exit codes:
      0   retired
      1   storage
      2   no such list, or no reason given
      6   retired already, the feed is in use, or the keys are not at hand

    \b
    Example:
      syncd feed retire /srv/feed --list images --reason "moved to images-2"
    """
    from syncd.errors import UsageError
    from syncd.feed.folder import FeedFolder
    from syncd.model import list_name
    from syncd.publish import author
    from syncd.publish.rotate import finish, online_signers, refuse_operators

    folder, listed = FeedFolder(feed), list_name(name)
    refuse_operators(feed, "`syncd retire LIST --reason R` ends a list there")
    if not reason.strip():
        raise UsageError("a reason is needed", hint="say with --reason why")
    finish(folder)
    signers = online_signers(folder, online_keys or author.keys_folder(feed), sign_with or ())
    now = utc_now()
    done = author.retire(folder, listed, signers, now)
    if as_json:
        print_json({"list": done.list, "version": done.version, "retired_at": stamp(now), "reason": reason})
    else:
        say(f"{done.list} version {done.version} published: retired ({reason})")


@app.command("serve")
def serve(
    feed: Feed,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: any free one.")],
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Who does not send the token in FILE gets nothing.")
    ] = None,
) -> None:
    """Serve a feed over HTTP, until it is told to stop.

    Serves metadata, manifests, segments, evidence and root.json, nothing else. Beyond this machine only with TLS and a
    token. The feed's files are plain: any web server may serve them instead. Nothing about requests is logged.

    \b
    Exit codes:
      0   stopped by SIGTERM or Ctrl-C
      1   the address is taken
      2   FEED is no feed, or neither TLS nor token

    \b
    Example:
      syncd feed serve /srv/feed --listen 127.0.0.1:8470
      syncd feed serve /srv/feed --listen 0.0.0.0:443 \\
        --tls-cert cert.pem --tls-key key.pem --token-file token
    """
    from syncd.feed import serve as server
    from syncd.feed.folder import FeedFolder
    from syncd.feed.signed import load_repository

    host, port = arguments.address(listen)
    token = arguments.token(token_file)
    load_repository(FeedFolder(feed))

    def announce(url: str) -> None:
        typer.echo(f"serving {clean(str(feed))} at {url}")

    server.serve(feed, host, port, token=token, tls_cert=tls_cert, tls_key=tls_key, announce=announce)
