"""Near look-ups find what they should, whenever the command that makes their index was stopped."""

from pathlib import Path

from stops.folders import PICTURES, pdq
from stops.processes import Command, Processes


def check_near(base: Path, processes: Processes, clock: int) -> list[str]:
    """Ask for altered pictures."""
    altered = [(entry, pdq(entry)[:-4] + bytes(byte ^ 0x7F for byte in pdq(entry)[-4:])) for entry in (0, PICTURES - 1)]
    asked = [f"pdq:{digest.hex()}" for _, digest in altered]
    (ended,) = processes.run(base, Command(("near", "mirror", *asked, "--json")), clock=clock)
    if ended.code != 0:
        return [f"near look-ups fail: {ended}"]
    answers = [[(hit["entry"], hit["distance"]) for hit in one["hits"]] for one in ended.json["digests"]]
    expected = [[(f"p{entry}", 28)] for entry, _ in altered]
    return [] if answers == expected else [f"near look-ups find {answers}"]
