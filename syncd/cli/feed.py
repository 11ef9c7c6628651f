"""``syncd feed init``, ``publish``, ``compact``, ``sign`` and ``retire``: the publishing side."""

from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from syncd.cli.arguments import Feed, OnlineKeys, SignWith, not_a_stream
from syncd.cli.feed_guard import Accept, DryRun, MaxAdded, MaxRemoved, chosen_limits, show_publication
from syncd.cli.first_keys import KeyCount, OfflineFolders, note_system_disk, number_of, show_offline
from syncd.cli.output import JsonFlag, note, print_json, progress, say, utc_now
from syncd.errors import UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.listfile import ListFiles
from syncd.listfile.beside import unchecked_signatures
from syncd.listfile.profile import READY, chosen
from syncd.listfile.unpack import shown
from syncd.model import list_name
from syncd.pipeline.guard import PartnersGuard
from syncd.publish import author
from syncd.publish.rotate import feed_signers, finish, refuse_operators
from syncd.units import count, stamp

OneList = Annotated[str, typer.Option("--list", metavar="L", help="The list.")]
_OPERATORS: Final = "only `syncd sync` publishes there; publish your own rows in a feed of their own, added as a source"


def init(
    feed: Feed,
    offline_keys: OfflineFolders,
    online_keys: OnlineKeys = None,
    keys: KeyCount = None,
    threshold: Annotated[int, typer.Option(min=1, help="How many of them must sign; usually 2.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Create a feed folder, its keys and its trust root.

    FEED/root.json is the trust root: hand it to your followers by another way than the feed itself. The offline keys
    only sign new keys: keep DIR on a stick in a safe. With --keys 3 --threshold 2 the feed survives the loss or theft
    of one of the three keys. Nothing is ever overwritten.

    \b
    Exit codes:
      0   created
      1   storage
      2   the feed already exists, or its keys would be inside it
      6   refused

    \b
    Example:
      syncd feed init /srv/feed --offline-keys /media/keys --keys 3 --threshold 2
    """
    online = online_keys or author.keys_folder(feed)
    root = author.init(
        feed,
        offline_keys[0],
        online,
        count=number_of(offline_keys, keys),
        threshold=threshold,
        now=utc_now(),
        custodians=offline_keys[1:],
    )
    on_disk = note_system_disk(offline_keys, feed)
    if as_json:
        offline = [str(one) for one in offline_keys]
        document = {"feed": feed, "root": root, "offline_keys": offline, "online_keys": online}
        print_json({**document, "on_system_disk": on_disk})
        return
    say(f"feed          {feed}")
    say(f"trust root    {root}  (hand it out, not through the feed)")
    show_offline(offline_keys)
    say(f"online keys   {online}  (publishing needs them here)")
    say(f"next: syncd feed publish {feed} --list NAME --full FILE")


def publish(
    feed: Feed,
    name: OneList,
    full: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The whole list, as it is to be; - reads standard input.")
    ] = None,
    add: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows to add or to relabel.")] = None,
    remove: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows to remove.")] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="A row to remove that states no entry removes only the entry without an id.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Create one more list; refused if it already exists.")] = False,
    skip_bad: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=not_a_stream, help="Skip bad rows, and write them with reasons to FILE."),
    ] = None,
    algorithm: Annotated[
        str | None, typer.Option(metavar="A", help="The algorithm of every row, if the file does not state it.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--map", metavar="NAME=COLUMN,...", help="The columns to read, such as digest=MD5,entry=ID."),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="C", help="The character between values; default: found in the header.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help=f"A saved map, or one of {', '.join(READY)}.")
    ] = None,
    signer: Annotated[
        Path | None, typer.Option(metavar="KEY", help="The public key (PEM) by which FILE.sig beside FILE is checked.")
    ] = None,
    max_removed: MaxRemoved = None,
    max_added: MaxAdded = None,
    accept: Accept = None,
    dry_run: DryRun = False,
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> int:
    """Publish the next version of a list.

    Files are CSV with a header, or JSON, with the columns algorithm,digest,entry,label. Only algorithm and digest are
    required. One digest a line and the output of md5sum need --algorithm; other columns need --map or --profile. Files
    may be compressed (gz, xz, zip); FILE.sha256 beside a file is checked, FILE.sig by the key in --signer. A row to
    remove may give only the entry, or only the digest to remove all its entries; with --exact, a row without an entry
    removes only the entry without an id. --full is compared with the published version, so that followers fetch only
    the difference; if nothing differs, nothing is published. A bad row stops the command, which names file, line and
    column, unless --skip-bad is given. To add a list to a feed that already has one, give --new: a typing error in a
    name then creates no list.

    A change that is larger than usual is not published: the command shows its counts and a code, and ends with exit
    code 3. The same command with --accept CODE publishes exactly those rows. Changes count together with those of the
    past 24 hours and 7 days; bad rows that are skipped count as removed.

    \b
    Exit codes:
      0   published, or nothing to publish
      1   storage
      2   a bad row or command line, or no such list and no --new
      3   held: the change is larger than the limits, or CODE is another's
      6   the feed is in use, or the keys are not available

    \b
    Example:
      syncd feed publish /srv/feed --list images --full all.csv
      syncd feed publish /srv/feed --list images --add new.csv --remove gone.csv
      syncd feed publish /srv/feed --list images --full all.csv --dry-run
      syncd feed publish /srv/feed --list images --full md5.txt --algorithm md5
      syncd feed publish /srv/feed --list images --full media.json --profile vics
    """
    limits = chosen_limits(max_removed, max_added)
    folder = FeedFolder(feed)
    files = ListFiles(full, add, remove, skip_bad, chosen(profile, columns, delimiter, algorithm, signer), exact)
    author.keep_apart(feed, *filter(None, [skip_bad]))
    listed = list_name(name)
    refuse_operators(feed, _OPERATORS)
    finish(folder)
    signers = feed_signers(folder, online_keys, sign_with)
    left_out: dict[Path, int] = {}
    guard = PartnersGuard(folder, utc_now(), limits, accept)
    with progress(f"publishing {listed}") as report:
        read = partial(
            files.read,
            progress=lambda done, total: report("reading", done, total),
            left_out=lambda path, number: left_out.update({path: number}),
        )
        published = guard.publish(listed, read, signers, new=new, dry_run=dry_run)
    for path, number in left_out.items():
        left = f"{count(number, 'row')} of {shown(path)} left out by the profile"
        note(f"{left}: of a type that is not a digest, or revoked", kind="note")
    known = files.profile.signer is not None
    for signature in unchecked_signatures(filter(None, [full, add, remove]), signer=known):
        note(f"{signature.name} was not checked: {'only .sig is' if known else 'name the key with --signer'}")
    if published.skipped:
        note(f"{count(published.skipped, 'bad row')} left out: see {skip_bad}")
    return show_publication(published, guard.judgement, dry_run=dry_run, as_json=as_json)


def compact(
    feed: Feed,
    names: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="A list; may be repeated. Default: all.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fold each list into one base, due or not.")] = False,
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Fold accumulated deltas into fewer files, to keep look-ups fast.

    `syncd feed publish` does this by itself when it is due. The content stays the same. The result is published as a
    version of its own; followers that hold the deltas fold them without downloading anything.

    \b
    Exit codes:
      0   folded, or nothing was due
      1   storage, or a segment on this disk is damaged
      2   command line
      6   the feed is in use, or the keys are not available

    \b
    Example:
      syncd feed compact /srv/feed --all
    """
    folder = FeedFolder(feed)
    refuse_operators(feed, _OPERATORS)
    finish(folder)
    published = map(layout.list_of, load_repository(folder).targets())
    chosen = [list_name(name) for name in names] if names else sorted(filter(None, published))
    signers = feed_signers(folder, online_keys, sign_with)
    folded = {name: author.compact(folder, name, signers, utc_now(), everything=everything) for name in chosen}
    if as_json:
        versions = {name: manifest.version if manifest else None for name, manifest in folded.items()}
        print_json({"lists": [{"list": name, "folded": versions[name]} for name in versions]})
        return
    for name, manifest in folded.items():
        say(f"{name}: nothing to fold" if manifest is None else f"{name} version {manifest.version}: folded")


def sign(feed: Feed, online_keys: OnlineKeys = None, as_json: JsonFlag = False) -> None:
    """Sign the timestamp again: followers then know that lists are current.

    A timestamp is valid for 48 hours. Every publication signs it; if days can pass between two publications, run this
    from a timer. It changes no list. Followers then see a current feed even if your export has failed, so monitor the
    export separately.

    \b
    Exit codes:
      0   signed
      1   storage
      2   FEED is not a feed, or has no list yet
      6   the key is not available, the feed is in use, or the clock was set back

    \b
    Example:
      syncd feed sign /srv/feed
    """
    folder = FeedFolder(feed)
    refuse_operators(feed, "the daemon signs there, and every `syncd sync`")
    finish(folder)
    if not any(map(layout.list_of, load_repository(folder).targets())):
        raise UsageError(f"{feed} has no list yet", hint=f"publish one: syncd feed publish {feed} --list NAME ...")
    until = author.sign(folder, feed_signers(folder, online_keys, ()), utc_now())
    if as_json:
        print_json({"expires": stamp(until)})
    else:
        say(f"signed: valid until {stamp(until)}")


def retire(
    feed: Feed,
    name: OneList,
    reason: Annotated[str, typer.Option(metavar="R", help="Why; repeated in the output, not published.")],
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> None:
    """Retire a list: publish that it has ended.

    Its next version is empty, and says since when the list is retired. Matchers that follow the feed skip it and warn
    for seven days; an operator that follows the feed has to release the change first. Tell your followers why, and
    which list replaces it. `syncd feed publish` reinstates it.

    \b
    Exit codes:
      0   retired
      1   storage
      2   there is no such list, or no reason was given
      6   it is already retired, the feed is in use, or the keys are not available

    \b
    Example:
      syncd feed retire /srv/feed --list images --reason "moved to images-2"
    """
    folder, listed = FeedFolder(feed), list_name(name)
    refuse_operators(feed, "retire a list there by `syncd retire LIST --reason R`")
    if not reason.strip():
        raise UsageError("a reason is needed", hint="state it with --reason")
    finish(folder)
    signers = feed_signers(folder, online_keys, sign_with)
    now = utc_now()
    published = author.retire(folder, listed, signers, now)
    if as_json:
        print_json({"list": published.list, "version": published.version, "retired_at": stamp(now), "reason": reason})
    else:
        say(f"{published.list} version {published.version} published: retired ({reason})")
