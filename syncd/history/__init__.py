"""The private history: the rows that each publication added to a list or removed from it, and how to search them."""
