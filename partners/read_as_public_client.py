"""Runs in the public client's environment: reads one fake server to its end, and prints what came as JSON."""

import dataclasses
import json
import sys
import types


def ncmec(base, username, password, until):
    from threatexchange.exchanges.clients.ncmec.hash_api import FeedbackType, FingerprintType, NCMECHashAPI

    # The client takes an enum of the partner's addresses; an object with a value does as well.
    api = NCMECHashAPI(username, password, types.SimpleNamespace(value=base))
    updates = [update for page in api.get_entries_iter(end_timestamp=until) for update in page.updates]
    api.submit_upvote(7, "a-1", FingerprintType.md5)
    api.submit_feedback(7, "a-1", FingerprintType.pdq, FeedbackType.downvote)
    return {
        "status": api.status().esp_name,
        "members": [member.esp_id for member in api.members()],
        "reasons": api.feedback_reasons(FingerprintType.md5),
        "updates": [
            {
                "key": [update.entry_type.value, update.member_id, update.id],
                "deleted": update.deleted,
                "classification": update.classification,
                "fingerprints": update.fingerprints,
                "feedback": {
                    kind: [[vote.feedback_type.value, vote.member.esp_id, vote.reason] for vote in votes]
                    for kind, votes in update.feedback.items()
                },
            }
            for update in updates
        ],
    }


def stopncii(base, function_key, subscription_key):
    from threatexchange.exchanges.clients.stopncii import api

    endpoint = api.StopNCIIEndpoint
    keys = dict.fromkeys((endpoint.SubmitHashes, endpoint.SubmitFeedback), function_key)
    client = api.StopNCIIAPI(subscription_key, function_key, keys, base)
    pages = list(client.fetch_hashes_iter())
    client.submit_feedback(api.StopNCIISignalType.ImagePDQ, "f" * 64, api.StopNCIICSPFeedbackValue.Blocked)
    client.submit_hash(api.StopNCIISignalType.ImagePDQ, "f" * 64)
    return {
        "checkpoints": [page.nextSetTimestamp for page in pages],
        "records": [
            [record.signalType.value, record.hashValue, record.hashStatus.value]
            for page in pages
            for record in page.hashRecords
        ],
    }


def tcap(base, username, password):
    from threatexchange.exchanges.clients.techagainstterrorism.api import TATHashListAPI

    TATHashListAPI.BASE_URL = f"{base}/"
    pages = list(TATHashListAPI(username, password).fetch_hashes_iter())
    return {
        "checkpoints": [page.checkpoint for page in pages],
        "records": [dataclasses.asdict(record) for page in pages for record in page.results],
    }


def threatexchange(base, token, group):
    from threatexchange.exchanges.clients.fb_threatexchange.api import ThreatExchangeAPI
    from threatexchange.exchanges.clients.fb_threatexchange.threat_updates import ThreatUpdateJSON

    api = ThreatExchangeAPI(token, endpoint_override=base)
    found = api.get_privacy_group(group)
    updates = api.get_threat_updates(
        group, page_size=3, fields=ThreatUpdateJSON.te_threat_updates_fields(), decode_fn=ThreatUpdateJSON
    )
    return {
        "group": [found.name, found.threat_updates_enabled],
        "records": [
            [one.id, one.threat_type, one.indicator, one.time, one.should_delete] for page in updates for one in page
        ],
    }


if __name__ == "__main__":
    reader = {"ncmec": ncmec, "stopncii": stopncii, "tcap": tcap, "threatexchange": threatexchange}[sys.argv[1]]
    print(json.dumps(reader(**json.loads(sys.argv[2]))))
