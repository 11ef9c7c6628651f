"""The content of a feed: its layout and folder, following one from a peer, proof of manifests, garbage collection."""
