"""Values computed at first use, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - reads as the decorator it is, beside @property
    """A property computed once and kept.

    Unlike `functools.cached_property` of Python 3.11 it takes no lock: threads that meet here compute the same value
    twice, and a process forked meanwhile does not inherit a lock that nobody will ever release.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, _owner: type) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)  # from now on found there, before this
        return value
