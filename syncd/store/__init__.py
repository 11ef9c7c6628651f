"""Places for a feed's published files, behind one protocol."""
