"""The Update Framework (specification 1.0.34), both ways; the only importer of tuf.

`client` fetches and verifies a feed's metadata, `offline` verifies what is at hand, `repository` signs (through
`draft`), `keys` makes and loads signing keys, `values` are what they hand out. Targets are manifests only; what a
manifest names is fetched by hash.
"""
