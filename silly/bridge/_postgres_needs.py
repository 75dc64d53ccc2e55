"""Whether psycopg is here, in a version that ``psycopg`` was made for. Importing this
raises ImportError if not."""

from __future__ import annotations

try:
    import psycopg
except ImportError as exc:
    raise ImportError(f"bridge.psycopg needs psycopg 3.3: pip install 'silly-runtime[postgres]' ({exc})") from exc
if not psycopg.__version__.startswith("3.3."):
    raise ImportError(
        f"bridge.psycopg needs psycopg 3.3, and this is {psycopg.__version__}: pip install 'silly-runtime[postgres]'"
    )
if not psycopg.capabilities.has_cancel_safe():
    raise ImportError(
        f"bridge.psycopg needs libpq 17 or newer, and this is {psycopg.pq.version_pretty(psycopg.pq.version())}: "
        "pip install 'silly-runtime[postgres]' brings one"
    )
