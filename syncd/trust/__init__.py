"""The Update Framework (TUF, specification 1.0.34): verifying and signing. The only package that imports tuf.

`client` fetches and verifies a feed's metadata, `offline` verifies local copies, `strict` every byte of them,
`repository` signs (through `draft`), `keys` creates and loads signing keys, `values` holds the types they share.
Targets are manifests only; the files that a manifest names are fetched by hash.
"""
