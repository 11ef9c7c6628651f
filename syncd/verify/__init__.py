"""Proof of files on a disk, from the trust root to the last byte: a feed, a pulled copy, a state folder.

Nothing is locked or written: publishing and pulling go on in the meantime (`tally.prove_steadily`).
"""
