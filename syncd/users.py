"""Names of users, and who owns what."""

import grp
import os
import pwd
from pathlib import Path


def user_name(number: int) -> str:
    """Return the name of a user, for messages and the audit log."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def group_name(number: int) -> str:
    """Return the name of a group."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"group {number}"


def this_user() -> str:
    """Return the name of the user that runs this process."""
    return user_name(os.getuid())


def is_of_another(folder: Path) -> bool:
    """Return True if a folder belongs to another user, or lies where this user cannot look. False if it is missing."""
    try:
        return folder.stat().st_uid != os.geteuid()
    except PermissionError:
        return True
    except OSError:
        return False


def owner_name(folder: Path) -> str:
    """Return the name of the user that owns a folder, as far as this user can see it."""
    try:
        return user_name(folder.stat().st_uid)
    except OSError:
        return "its owner"
