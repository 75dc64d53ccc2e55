"""A user's program, as mypy and pyright see it: ``python -m tests.typing``, a part of ``make lint``."""
