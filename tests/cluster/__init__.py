"""Several daemons on one catalog and one bucket, stopped, paused and cut off in any order: ``make cluster``."""
