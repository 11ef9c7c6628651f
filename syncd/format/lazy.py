"""Lazy properties: computed at first use, without a lock."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class lazy(Generic[T]):  # noqa: N801 - reads as the decorator it is, beside @property
    """A property that is computed at first use and kept.

    Unlike `functools.cached_property` of Python 3.11 it takes no lock. Two threads may compute the same value twice,
    but a process forked in the meantime cannot inherit a lock that is never released.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, _owner: type) -> T:
        value = instance.__dict__[self._name] = self._compute(instance)  # shadows this descriptor from now on
        return value
