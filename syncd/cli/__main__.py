"""``python -m syncd.cli``: the console script, if it is not on the path."""

from syncd.cli.main import run

if __name__ == "__main__":
    run()
