"""Reports for people and probes: the overview, status, history and holds, in words and as JSON. They change nothing."""
