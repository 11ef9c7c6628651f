"""A partner that publishes what no list file can say: any change of a list, signed as `feed publish` signs."""

from syncd.feed.layout import target_name
from syncd.feed.signed import load_repository
from syncd.format.manifest import Manifest
from syncd.publish import author
from syncd.publish.change import ListChange
from syncd.publish.publication import Proposal
from world import World


def publish_change(world: World, change: ListChange) -> Manifest:
    """Sign and install a change; its segments are in place."""
    press = author.publisher(world.partner, world.partner_signers())
    press.publish_fixed("test", Proposal("publish", (change,)), world.clock())
    target = load_repository(world.partner).targets()[target_name(change.list)]
    return world.partner.manifest(change.list, target.sha256)
