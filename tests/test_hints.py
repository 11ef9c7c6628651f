"""Commands that messages name: each can be typed as it stands, and each cure names the test that carries it out."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from command_line import syncd
from syncd.cli.commands import LazyCommand, program
from two_versions import running
from world import World

__all__ = ["running"]  # a fixture

ROOT: Final = Path(__file__).parents[1] / "syncd"


def strings(tree: ast.AST) -> Iterator[str]:
    """Every text of a module that is neither a docstring nor the help of an option; ``{}`` for what is put into it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.keyword) and node.arg in {"help", "description"}:
            continue
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield _text(node)
        else:
            yield from strings(node)


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.JoinedStr():
            return "".join(_text(part) for part in node.values)
    return "{}" if isinstance(node, ast.FormattedValue) else ""


def advised_in(path: Path) -> Iterator[str]:
    """The commands of ours that the messages of a module name."""
    for text in strings(ast.parse(path.read_text())):
        for command in re.findall(r"`(syncd [^`]+)`", text):
            yield re.sub(r"\s+", " ", command)


MESSAGES: Final = sorted(
    {(str(path.relative_to(ROOT)), command) for path in ROOT.rglob("*.py") for command in advised_in(path)}
)


SHOWN: Final = {
    "syncd audit",
    "syncd audit verify",
    "syncd explain",
    "syncd feed publish --help",
    "syncd feed status FEED",
    "syncd feed status {}",
    "syncd holds",
    "syncd matchers",
    "syncd matchers --json",
    "syncd snapshots {}",
    "syncd status",
    "syncd suppressions",
}
"""Commands that only show something: `test_a_command_that_only_shows_ends_well` runs them."""

NAMED: Final = {
    "syncd explain",
    "syncd feed init",
    "syncd feed publish",
    "syncd matchers add",
    "syncd pull",
    "syncd recover",
    "syncd rollback",
}
"""Commands that messages speak of by name, without saying how to type them."""

HELD: Final = "situations::the_list_halved_overnight"
SIGNED: Final = "cures_hints::online_metadata_that_expired_is_signed_by_the_command_that_status_names"
REPLACED: Final = "cures_hints::a_lost_online_key_is_replaced"
BEHIND: Final = "cures_hints::an_older_catalog_that_was_restored_alone"
CURES: Final[dict[str, str]] = {
    "catalog/folder.py: syncd catalog copy": "catalog_copy::a_catalog_is_moved_to_a_server",
    "catalog/folder.py: syncd init --offline-keys DIR": "cures_hints::a_state_that_is_not_set_up",
    "catalog/folder.py: syncd recover --above N": "cures_hints::published_metadata_is_brought_back",
    "catalog/lists.py: syncd verify": "lost_rows::verify_names_a_row_that_is_missing",
    "catalog/matchers.py: syncd matchers revoke {}": "cures_hints::a_matcher_that_exists_is_revoked_first",
    "catalog/place.py: syncd store copy": "store_copy::a_folder_with_two_lists_moves_to_a_bucket",
    "cli/store.py: syncd verify": "store_copy::a_damaged_state_is_not_moved",
    "operate/move_store.py: syncd verify": "store_copy::a_damaged_state_is_not_moved",
    "cli/catalog.py: syncd verify": "catalog_copy::a_catalog_is_moved_to_a_server",
    "cli/holds.py: syncd discard HOLD --reason R": "cures_hints::a_hold_is_discarded",
    "cli/holds.py: syncd release HOLD --reason R": HELD,
    "cli/init.py: syncd sync": "cures_hints::a_state_that_is_not_set_up",
    "cli/matchers.py: syncd matchers add NAME": "cures_hints::a_matcher_that_exists_is_revoked_first",
    "cli/matchers.py: syncd matchers revoke {}": "cures_hints::a_matcher_that_exists_is_revoked_first",
    "cli/repair.py: syncd sync": BEHIND,
    "cli/rollback.py: syncd unpin {} --reason R": "cures::a_pinned_list_follows_its_partner_again",
    "cli/rotate.py: syncd clock accept TIME --reason R": "clock_accept::accepting_shows_both_times_and_is_recorded",
    "cli/status.py: syncd sync": "cures_hints::a_state_that_is_not_set_up",
    "cli/suppressions.py: syncd discard {} --reason R": (
        "cures_hints::a_suppression_that_waits_is_discarded_and_not_ended"
    ),
    "cli/suppressions.py: syncd release {} --reason R": (
        "cures_hints::a_suppression_that_waits_is_confirmed_and_not_extended"
    ),
    "cli/suppressions.py: syncd suppress --extend {} --reason R": "cures_damage::a_suppression_expires_soon",
    "catalog/transfer.py: syncd verify": "catalog_copy::a_damaged_catalog_is_not_moved",
    "operate/move.py: syncd run --check": "catalog_copy::there_must_be_something_to_move",
    "clock.py: syncd clock accept TIME --reason R": "clock_accept::syncs_go_on_and_ages_count_again",
    "clock.py: syncd feed renew FEED --accept-clock TIME": "clock_accept::a_partner_signs_again_with_its_online_keys",
    "clock.py: syncd feed renew STATE --state --offline-keys DIR --accept-clock TIME --reason R": (
        "clock_accept::root_and_targets_need_their_keys"
    ),
    "matcher/copy.py: syncd pull URL --root ROOT --dir DIR": "cures_hints::a_copy_that_was_never_pulled",
    "operate/backup.py: syncd verify": "cures_hints::a_backup_whose_files_are_missing",
    "operate/clock.py: syncd sync": (
        "cli_suppress::a_correction_by_a_clock_days_behind_reaches_matchers_once_it_is_right"
    ),
    "operate/holds.py: syncd sync {}": "holds::lost_private_files_open_no_lane",
    "operate/rollback.py: syncd release HOLD --reason R": "cures_hints::a_rollback_beside_a_hold",
    "operate/rollback.py: syncd rollback {} {} --exact --reason R": "cures_hints::a_rollback_beside_a_hold",
    "operate/suppression_ends.py: syncd discard {} --reason R": (
        "cures_hints::a_suppression_that_waits_is_discarded_and_not_ended"
    ),
    "operate/suppression_order.py: syncd suppress --extend {} --reason R": (
        "cures_hints::a_suppression_that_is_in_force_is_extended"
    ),
    "outcomes.py: syncd discard HOLD --reason R": "cures_hints::a_hold_is_discarded",
    "outcomes.py: syncd discard {0} --reason R": "cures_hints::a_hold_is_discarded",
    "outcomes.py: syncd release HOLD --reason R": HELD,
    "outcomes.py: syncd release {0} --reason R": HELD,
    "outcomes.py: syncd sync {source}": "cures::a_list_is_late_until_its_source_is_synced",
    "pipeline/known_good.py: syncd sync": "cures_hints::known_good_digests_that_are_lost_are_read_again",
    "pipeline/settle/result.py: syncd sync": "cures_hints::an_origin_that_the_catalog_lost_is_fetched_again",
    "pipeline/local_damage.py: syncd sync": "damage_met::a_dry_run_names_the_damage_and_repairs_nothing",
    "errors.py: syncd verify FEED": "cures_hints::a_damaged_feed_names_the_feed_to_verify",
    "format/segment.py: syncd verify": "cures_damage::a_segment_is_damaged_everywhere",
    "publish/author.py: syncd feed publish {} --list {} --full FILE": "cures_hints::a_retired_list_lives_again",
    "publish/installing.py: syncd recover --above N": "bucket::a_bucket_ahead_of_its_catalog_stops_until_recover",
    "publish/journal.py: syncd verify {}": "cures_hints::a_damaged_journal_names_the_feed_to_verify",
    "publish/revert.py: syncd feed publish {} --list {} --remove FILE": (
        "cures_hints::a_version_without_rows_is_not_reverted_to"
    ),
    "publish/revert.py: syncd feed retire {} --list {} --reason R": (
        "cures_hints::a_version_without_rows_is_not_reverted_to"
    ),
    "report/expiry.py: syncd feed renew FEED --offline-keys DIR": "cures::root_or_targets_expired",
    "report/expiry.py: syncd feed renew STATE --state --offline-keys DIR --reason R": (
        "cures::our_own_metadata_expires_soon"
    ),
    "report/expiry.py: syncd feed sign FEED": SIGNED,
    "report/expiry.py: syncd sync": SIGNED,
    "report/fleet.py: syncd feed rotate STATE {} --state --offline-keys DIR --reason R": (
        "rotate_several::new_keys_are_announced_and_then_put_in_force"
    ),
    "report/pins.py: syncd unpin {} --reason R": "cures::a_pinned_list_follows_its_partner_again",
    "report/suppressions.py: syncd suppress --extend {} --reason R": "cures_damage::a_suppression_expires_soon",
    "service/web/dashboard/fleet.py: syncd matchers add NAME": "cures_daemon::a_token_is_replaced_without_a_gap",
    "service/web/dashboard/holds.py: syncd release {} --reason R": "cures_hints::a_hold_is_discarded",
    "service/web/dashboard/tasks.py: syncd matchers forget {}": "cli_matchers::instances_that_are_gone_are_forgotten",
    "service/web/dashboard/tasks.py: syncd retire LIST --reason R": "cures::a_source_is_no_longer_configured",
    "service/web/dashboard/tasks.py: syncd sync {}": "cures::a_list_is_late_until_its_source_is_synced",
    "service/web/events.py: syncd matchers add NAME": "cures_daemon::a_token_is_replaced_without_a_gap",
    "sources/signed_feed.py: syncd retrust {} --root F --reason R": "cures::too_few_root_keys_are_left",
    "store/s3.py: syncd recover --above N": "bucket::another_content_under_a_taken_name_is_refused",
    "trust/draft.py: syncd feed rotate FEED {} --offline-keys DIR": REPLACED,
    "trust/draft.py: syncd feed rotate STATE {} --state --offline-keys DIR --reason R": REPLACED,
    "trust/repository.py: syncd recover --above N": BEHIND,
    "verify/state.py: syncd recover --above N": BEHIND,
}
"""The test that carries out what a message of a module advises."""

UNTRIED: Final[dict[str, str]] = {
    "catalog/holds.py: syncd verify": "the update of a whole hold was lost from the catalog",
    "cli/feed.py: syncd retire LIST --reason R": "a command for another folder than the one that was named",
    "cli/feed.py: syncd sync": "a command for another folder than the one that was named",
    "cli/feed_history.py: syncd rollback LIST VERSION --reason R": "a command for another folder than the one named",
    "cli/sync.py: syncd sync --status ID": "a mistake on the command line",
    "cli/source.py: syncd sync {} --dry-run": "a mistake on the command line",
    "pipeline/stage_stated.py: syncd verify": "a segment that was changed on the disk between two reads of one sync",
    "operate/audit.py: syncd verify": "a signed document that is not JSON, but was proved as signed before",
    "operate/known_good.py: syncd sync {}": "the file was read between the decision and the release",
    "operate/repair.py: syncd verify": "the newest version was lost from the catalog",
    "pipeline/stage.py: syncd verify": "a file was changed during a sync",
    "publish/compact.py: syncd verify": "a file was changed while it was folded",
    "report/document.py: syncd sync --no-wait": "a mistake on the command line",
    "service/web/documents.py: syncd verify": "any failure to read the state, for a reader without access to it",
    "service/web/health.py: syncd sync": "as `SyncdListNotProved`",
    "service/web/health.py: syncd verify": "as `SyncdListNotProved`",
    "trust/floors.py: syncd retrust SOURCE --root F --reason R": "a feed was rebuilt with the keys of the old one",
}
"""Advice that no test carries out in its own situation, with what that is."""


def lacking(command: str) -> list[str]:
    """The arguments and options without which the program refuses a command; none if it is only named."""
    words = command.split()[1:]
    known: Any = program()
    while words and words[0] in getattr(known, "commands", ()):
        known = known.commands[words.pop(0)]
        known = known.load() if isinstance(known, LazyCommand) else known
    given = {word for word in words if word.startswith("--")}
    if "--help" in given or command in NAMED or not hasattr(known, "params"):
        return []
    takes = {option for one in known.params if not getattr(one, "is_flag", True) for option in one.opts}
    values = sum(word in takes for word in words)
    arguments = [one for one in known.params if one.param_type_name == "argument" and one.required]
    missing = [one.name for one in arguments[len(words) - len(given) - values :]]
    options = [one for one in known.params if one.param_type_name == "option" and one.required]
    return missing + [one.opts[0] for one in options if not given & set(one.opts)]


@pytest.mark.parametrize(("module", "command"), MESSAGES)
def test_a_command_in_a_message_is_complete(module: str, command: str) -> None:
    """Whoever types it is not asked for more: every argument and option that it needs has at least a placeholder."""
    assert lacking(command) == [], module


def test_a_command_that_lacks_something_is_noticed() -> None:
    """The check above can fail."""
    assert lacking("syncd rollback {} {} --exact") == ["--reason"]
    assert lacking("syncd release --reason R") == ["hold"]
    assert lacking("syncd feed retire FEED") == ["--list", "--reason"]
    assert lacking("syncd retire") == ["name", "--reason"]
    assert lacking("syncd feed renew STATE --state --offline-keys DIR --reason R") == []
    assert lacking("syncd matchers --json") == []


def test_every_cure_in_a_message_names_its_test() -> None:
    """A new one is tried before it is published, or says why not."""
    cures = {f"{module}: {command}" for module, command in MESSAGES if command not in SHOWN | NAMED}
    assert cures == CURES.keys() | UNTRIED.keys()
    assert not CURES.keys() & UNTRIED.keys()


@pytest.mark.parametrize("named", sorted(set(CURES.values())))
def test_every_test_of_a_cure_exists(named: str) -> None:
    """Under exactly that name."""
    module, test = named.split("::")
    assert f"def test_{test}(" in (Path(__file__).parent / f"test_{module}.py").read_text()


@pytest.mark.parametrize("command", sorted(SHOWN - {"syncd explain", "syncd feed status {}"}))
def test_a_command_that_only_shows_ends_well(running: World, command: str) -> None:
    """It can be typed as the messages have it."""
    values = {"FEED": running.partner.root, "{}": "iwf.images"}
    assert syncd(*(values.get(word, word) for word in command.split()[1:])).code == 0
