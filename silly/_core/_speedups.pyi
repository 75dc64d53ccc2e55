from collections.abc import Callable
from typing import Any

from ._fields import LoopFields as LoopFields
from ._fields import TaskFields as TaskFields

def begin(
    loop: LoopFields,
    main: TaskFields,
    plain_park: Callable[[object, str], Any],
    plain_pause: Callable[[], None],
    put_back: Callable[[Any], None],
    getcurrent: Callable[[], object],
    /,
) -> None: ...
def park(what: object, status: str = ..., /) -> Any: ...
def pause() -> None: ...
def wake(task: Any, value: Any = None, /) -> None: ...
