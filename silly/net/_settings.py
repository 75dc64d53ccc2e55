"""Calls that take their settings as arguments or as one dict, as in upstream."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def settings(what: str, name: str = "addr") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function so that it also takes a dict in place of the argument
    ``name`` and all that follow. It is then called with the dict's items as keyword
    arguments.

    Any other setting beside the dict raises TypeError: otherwise it would be ignored,
    and it may be the certificates or the limits. ``what`` names the function in that
    error.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        names = list(signature.parameters)
        place = names.index(name)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            given = args[place] if len(args) > place else kwargs.get(name)
            if not isinstance(given, Mapping):
                return function(*args, **kwargs)
            others = signature.bind(*args, **kwargs).arguments
            before = {each: others.pop(each) for each in names[:place]}
            del others[name]
            if any(value is not signature.parameters[each].default for each, value in others.items()):
                raise TypeError(f"{what}: settings in a dict and as arguments: use only one of the two")
            again: Callable[..., R] = call
            return again(**before, **given)

        return call

    return decorate
