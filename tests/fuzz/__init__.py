"""Fuzzing of the protocol code: ``make fuzz``, ``make fuzz TARGETS=chunks SECONDS=600``, or ``python -m tests.fuzz TARGET``.

The kept corpus is replayed by the suite.

A target is a module with ``run(data)``, which raises whenever what must hold doesn't, and is deterministic in its input;
``SEEDS``, the inputs to begin with; and ``TOKENS``, what is worth putting into an input.
"""

from __future__ import annotations

from pathlib import Path

TARGETS = ("frames", "inflate", "handshake", "requests", "chunks", "responses", "content", "conditional", "urls")
TARGETS += ("forwarded", "proxy")
CORPUS = Path(__file__).parent / "corpus"
FINDINGS = Path(__file__).parent / "findings"
"""What has failed; once fixed, it goes to the corpus as ``finding-*``."""
