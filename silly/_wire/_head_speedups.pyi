from .http1 import Request
from .limits import Limits

def take_request(buf: bytearray, limits: Limits, /) -> Request | None: ...
