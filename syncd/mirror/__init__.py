"""A mirror: follows a feed, keeps its files as they are, and serves them to matchers and to further mirrors."""
