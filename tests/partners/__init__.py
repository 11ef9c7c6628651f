"""Fake servers of partners that sign nothing: real HTTP on loopback, with every quirk that was seen or documented.

`model` has the records of a partner and what happens to them; each server renders them in its partner's form. The
public client in `real_client` reads each server in a test, so that the servers are proved by code of other authors.
"""
