"""A bucket as the configuration names it: a plain value that other processes can be given."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

DEFAULT_CACHE: Final = 64 << 30
"""Bytes; the current stacks of all lists should fit."""


class BucketSettings(BaseModel):
    """The place of a bucket, and access to it: files of keys, or else the standard environment of AWS clients."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    bucket: str
    prefix: str = ""
    """goes before every key; without slashes at its ends"""
    endpoint: str = ""
    """its address; '' for AWS"""
    region: str = ""
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    ca_file: Path | None = None
    """certificates of the authorities that its server may be certified by, instead of the system's"""
    cache_bytes: int = DEFAULT_CACHE
    """the size of this machine's cache, beyond which old segments are removed from it"""

    @property
    def place(self) -> str:
        """Its name in messages."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")
