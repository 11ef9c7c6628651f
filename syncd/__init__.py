"""syncd: signed hash-list deltas in, verified and versioned snapshots out."""

__version__ = "0.1.0"
