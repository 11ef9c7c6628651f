"""``syncd version``."""

import platform
from typing import Final

from syncd import __version__
from syncd.cli.output import JsonFlag, print_json, say

FORMAT: Final = 1
"""The format of published files; their paths begin with ``v1``."""


def version(as_json: JsonFlag = False) -> None:
    """Print the versions of syncd, of its format and of Python.

    \b
    Exit codes:
      0   printed

    \b
    Example:
      syncd version --json
    """
    if as_json:
        print_json({"syncd": __version__, "format": FORMAT, "python": platform.python_version()})
    else:
        say(f"syncd {__version__}", f"format {FORMAT}", f"Python {platform.python_version()}")
