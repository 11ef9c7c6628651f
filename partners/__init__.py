"""Fake servers of partners that sign nothing, for tests and the demo: real HTTP on loopback, with every known quirk.

`model` has the records of a partner and what happens to them; each server renders them in its partner's form. The
public client in `real_client` reads each server in a test, so that the servers are proved by code of other authors.
"""
