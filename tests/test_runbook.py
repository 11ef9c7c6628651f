"""Every cure of docs/operations.md is tried: each row of its tables and each alert names the tests that try it."""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from runbook import DOCS, Cure, code_lines, commands, rows_of, section
from syncd.cli.commands import LazyCommand, program

TESTS: Final = Path(__file__).parent
LOST: Final = "When things were lost or reset"

LOSSES: Final[dict[str, str]] = {
    "a pulled copy is damaged": "cures_damage::a_pulled_copy_is_damaged",
    "`current.json` of a copy is damaged": "cures_damage::current_json_of_a_copy_is_damaged",
    "a copy lacks a list from which a running matcher answers": "lost_current::a_list_that_is_back_is_loaded",
    "a segment is damaged or gone": "cures_damage::a_segment_is_damaged_everywhere "
    "cures_damage::a_segment_that_a_sync_finds_damaged_is_fetched_by_it",
    "the manifest in force of a list is damaged or gone": "cures_damage::the_manifest_in_force_is_damaged",
    "another file of the feed is damaged": "cures_damage::another_file_of_the_feed_is_damaged",
    "the catalog was damaged, removed or replaced, or the disk is lost": "cures_restore::a_backup_is_restored_into_an_"
    "empty_folder",
    "after a restore matchers refuse the feed": "cures_restore::a_backup_is_restored_into_an_empty_folder",
    "an online key may have been copied": "cures::an_online_key_of_a_partner_may_have_been_copied "
    "cures::an_online_key_of_an_operator_may_have_been_copied cures_daemon::a_key_that_is_a_credential_is_rotated",
    "a root key was lost, or may have been copied": "cures::a_root_key_that_was_lost_is_replaced_with_the_others",
    "fewer root keys than the threshold are left": "cures::too_few_root_keys_are_left "
    "cures::too_few_root_keys_of_an_operator_are_left",
    "root or targets expired": "cures::root_or_targets_expired cures::everything_expired",
    "a partner restored a backup and went on with higher versions": "situations::the_partner_restored_a_backup",
    "a partner emptied a list": "situations::a_list_was_emptied_on_purpose",
    "rows of a hold were lost on this disk": "holds::lost_private_files_open_no_lane",
    "a partner restored a backup and publishes lower versions": "cures::a_partner_puts_its_newest_files_back",
    "a partner rebuilt its feed": "cures::too_few_root_keys_are_left cli_ops::retrust",
    "the root file of a source was replaced, and nobody knows by whom": "cures::a_root_file_that_nobody_knows_is_taken_"
    "back",
    "the clock of this host was ahead or behind": "clock_accept::status_names_the_times_and_the_cure",
    "a partner no longer has a list that was followed": "cures::a_partner_no_longer_has_a_list",
}
"""The tests of each row of the table of losses."""

CLOCKS: Final[dict[str, str]] = {
    "the timestamp, by less than a day; times of verification": "clock_ahead::the_daemon_signs_at_once_and_then_hourly",
    "the timestamp, by more": "clock_accept::a_signature_of_another_century_is_replaced_by_the_first_good_sync",
    "the clock floor of a source": "clock_accept::syncs_go_on_and_ages_count_again",
    "the last pull into a copy": "clock_accept::a_pull_is_refused_and_names_the_way_out",
    "a partner's own feed": "clock_accept::a_partner_signs_again_with_its_online_keys "
    "clock_accept::a_feed_made_ahead_of_time_needs_its_offline_keys",
    "root or targets of an operator's feed": "clock_accept::root_and_targets_need_their_keys",
    "what somebody else's feed signed": "clock_accept::a_feed_that_was_signed_in_the_future_is_reported",
    "the expiry of a source's timestamp, by more than 30 days": "late_expiry::a_partner_that_signs_again_ends_it",
}
"""The tests of each row of the table about clocks."""

ALERTS: Final[dict[str, str]] = {
    "SyncdDown": "systemd::a_killed_daemon_comes_back",
    "SyncdStateUnreadable": "cures_restore::a_backup_is_restored_into_an_empty_folder",
    "SyncdListNotProved": "cures_damage::a_segment_is_damaged_everywhere "
    "cures_damage::the_manifest_in_force_is_damaged",
    "SyncdProofLate": "file_proof::a_pass_that_the_disk_stops_is_late_in_every_view",
    "SyncdHistoryDamaged": "cures_damage::a_file_of_the_history_is_restored_from_a_backup "
    "cures_damage::a_file_of_the_history_that_no_backup_has_is_removed",
    "SyncdTimestampNotSigned": "cures_daemon::the_timestamp_is_signed_once_the_key_is_back",
    "SyncdStateAhead": "clock_accept::syncs_go_on_and_ages_count_again",
    "SyncdInternalErrors": "daemon::a_full_disk_is_reported_until_it_has_space",
    "SyncdConfigRefused": "cures_daemon::a_configuration_that_was_refused_is_corrected",
    "SyncdNoLeader": "cures_fleet::a_fleet_without_a_leader_gets_one_that_has_the_keys",
    "SyncdTwoLeaders": "cures_fleet::a_daemon_that_overslept_its_lease_is_restarted",
    "SyncdReplicaLags": "cures_fleet::a_daemon_that_lags_serves_the_newest_once_it_can_read_again",
    "SyncdCannotLead": "cures_fleet::a_daemon_that_cannot_lead_gets_the_keys",
    "SyncdListStale": "cures::a_list_is_late_until_its_source_is_synced",
    "SyncdListVeryStale": "cures::a_list_is_late_until_its_source_is_synced",
    "SyncdSourceNotConfigured": "cures::a_source_is_no_longer_configured",
    "SyncdNothingPublished": "cures_damage::nothing_of_a_source_was_ever_published",
    "SyncdEquivocation": "cures::a_version_that_was_signed_twice bad_signer::the_same_version_with_other_content "
    "road::rejected_documents_are_kept_as_evidence",
    "SyncdRejected": "cures::root_or_targets_expired cures::a_partner_puts_its_newest_files_back",
    "SyncdHeld": "situations::the_list_halved_overnight",
    "SyncdKnownGoodHeld": "canaries::more_of_them_than_the_bound_hold_the_additions "
    "canaries::a_changed_file_that_takes_many_rows_off_waits_for_a_second_operator",
    "SyncdCanaryMissing": "cures::vectors_that_a_partner_replaced_are_corrected",
    "SyncdKnownGoodUnusable": "cures::a_known_good_file_that_others_may_write cures::a_known_good_file_of_another_user",
    "SyncdListPinned": "cures::a_pinned_list_follows_its_partner_again",
    "SyncdSuppressionExpires": "cures_damage::a_suppression_expires_soon",
    "SyncdUnreachable": "cures_tls::a_source_gets_the_authority_that_the_error_asks_for "
    "cures_tls::a_client_certificate_that_a_partner_demands",
    "SyncdListShrank": "cures::a_list_that_shrank_by_mistake",
    "SyncdMetadataExpiring": "cures::our_own_metadata_expires_soon",
    "SyncdMetadataOverdue": "cures::a_role_whose_key_is_gone_is_overdue_until_the_key_is_back",
    "SyncdPartnerMetadataExpiring": "cures::root_or_targets_expired",
    "SyncdPartnerClockAhead": "late_expiry::a_partner_that_signs_again_ends_it",
    "SyncdCertificateExpiring": "cures_tls::an_expired_certificate_is_renewed_while_it_is_served "
    "cures_tls::a_client_certificate_that_a_partner_demands web_tls::certificates_come_into_force_without_a_restart",
    "SyncdCertificateNotYetValid": "web_tls::a_certificate_that_is_not_valid_now_is_reported_on_both_sides",
    "SyncdCertificateUnreadable": "web_tls::a_file_that_is_not_a_certificate_changes_nothing "
    "cures_tls::a_key_that_may_not_be_read_is_named",
    "SyncdMatcherBehind": "cures_damage::a_pulled_copy_is_damaged",
    "SyncdMatcherSilent": "cures_daemon::a_token_is_replaced_without_a_gap",
    "SyncdInstancesSilent": "checkins::an_instance_that_is_silent_for_a_week_is_forgotten",
    "SyncdHttpFull": "cures_daemon::a_full_server_is_given_more_room",
    "SyncdHttpErrors": "cures_daemon::a_full_server_is_given_more_room",
    "SyncdWorkerKilled": "worker::a_slow_worker_finishes_once_the_deadline_is_raised",
    "SyncdLoadingSlow": "cli_watch::a_watched_copy_follows_events",
    "SyncdMirrorBehind": "mirror::without_its_upstream_a_mirror_serves_on",
    "SyncdMirrorTokensUnconfirmed": "mirror::without_its_upstream_a_mirror_serves_on",
    "SyncdSyncsFail": "cures::an_online_key_that_others_may_read cures::a_root_file_that_nobody_knows_is_taken_back "
    "no_room::a_list_that_does_not_fit_is_not_fetched",
}
"""The tests of what the runbook of an alert says to do."""


def test_every_loss_has_a_cure_that_is_tried() -> None:
    """A row that is new, or has other words, is tried before it is published."""
    assert losses(LOST) == list(LOSSES)
    assert losses("The clock was wrong") == list(CLOCKS)


def losses(title: str) -> list[str]:
    """The first cells of a section's table, without its head."""
    return list(rows_of(title))[1:]


def test_every_alert_has_a_cure_that_is_tried() -> None:
    """One that is new is tried before it is published."""
    alerts = set(re.findall(r"^### (Syncd\w+)$", section("Alerts"), re.M))
    assert ALERTS.keys() == alerts


@pytest.mark.parametrize("named", sorted({one for tests in (LOSSES, CLOCKS, ALERTS) for one in tests.values()}))
def test_every_test_that_is_named_exists(named: str) -> None:
    """Under exactly that name."""
    for one in named.split():
        module, test = one.split("::")
        assert f"def test_{test}(" in (TESTS / f"test_{module}.py").read_text(), one


def test_a_command_that_the_page_does_not_have_is_refused() -> None:
    """A changed page is a changed test."""
    cure = Cure("Run `syncd sync SOURCE`, then `systemctl start\nsyncd`.")
    assert cure.named == {"syncd sync SOURCE", "systemctl start syncd"}
    with pytest.raises(AssertionError, match="is not among"):
        cure.run("syncd sync")
    cure.stand_for("systemctl start syncd")
    with pytest.raises(AssertionError):
        cure.end()


def test_examples_are_read_line_by_line() -> None:
    """Of both forms, without prompts and comments, and with their continuations."""
    text = "Words:\n\n    $ syncd holds\n    hold  list\n    syncd sync     # now\n\n```sh\ncp a \\\n  b\n```\n"
    assert set(code_lines(text)) == {"syncd holds", "syncd sync", "cp a b"}


def test_the_pages_are_there() -> None:
    """So that a section that was moved is noticed here, and not as a test without commands."""
    assert code_lines(section("Backup and restore"))
    assert commands(section(LOST))
    assert (DOCS / "operations.md").is_file()


@cache
def texts() -> dict[str, str]:
    """Every page and every module, with the strings of the modules put together."""
    pages = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}
    modules = {str(path): path.read_text() for path in sorted((TESTS.parent / "syncd").rglob("*.py"))}
    return pages | {name: re.sub(r"""["']\s*\n\s*f?["']""", "", text) for name, text in modules.items()}


def unknown(command: str) -> list[str]:
    """The words of a command of ours that the program does not know: its name, a subcommand, an option."""
    words = command.split()[1:]
    known: Any = program()
    while words and hasattr(known, "commands"):
        if not re.fullmatch("[a-z-]+", words[0]) or words[0] not in known.commands:
            break
        known = known.commands[words.pop(0)]
        known = known.load() if isinstance(known, LazyCommand) else known
    if hasattr(known, "commands") and words and re.fullmatch("[a-z][a-z-]+", words[0]):
        return [words[0]]
    options = {option for parameter in known.params for option in parameter.opts} | {"--help", "--version"}
    return [word for word in words if word.startswith("--") and word.rstrip(",.;") not in options]


@pytest.mark.parametrize("name", texts())
def test_every_command_that_a_page_or_a_message_names_exists(name: str) -> None:
    """With its options, whether it is an example or stands in a sentence."""
    found = {re.sub(r"\s+", " ", one) for one in re.findall(r"`(syncd [^`]+)`", texts()[name])}
    assert {command: wrong for command in sorted(found) if (wrong := unknown(command))} == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    """The check above can fail."""
    assert unknown("syncd feed renew FEED --state") == []
    assert unknown("syncd feed renue FEED") == ["renue"]
    assert unknown("syncd sync --forse") == ["--forse"]
    assert unknown("syncd restore FILE") == ["restore"]


def test_every_section_that_a_message_names_exists() -> None:
    """Under exactly that name, whichever page it is."""
    plain = "".join(text for name, text in texts().items() if name.endswith(".py")).replace('\\"', '"')
    named = re.findall(r'"([A-Z][^"\n]{3,60})" in docs/([a-z-]+\.md)', plain)
    assert ("When things were lost or reset", "operations.md") in named
    for title, page in named:
        assert section(title, page), f"{page}: {title}"
