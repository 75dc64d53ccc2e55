from collections.abc import Mapping

def answer_lines(
    status: object, fields: object, first_lines: Mapping[int, bytes], /
) -> tuple[bytes, int | None] | None: ...
