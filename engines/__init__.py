"""Real engines on this machine for tests, benchmarks and `make run-cluster`: PostgreSQL, an S3 server, and daemons."""
