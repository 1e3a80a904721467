from collections.abc import Callable
from typing import Any

def encode_basestring_ascii(text: str, /) -> str: ...
def make_encoder(
    markers: dict[int, Any] | None,
    default: Callable[[Any], Any] | None,
    encoder: Callable[[str], str],
    indent: int | None,
    key_separator: str,
    item_separator: str,
    sort_keys: bool,
    skipkeys: bool,
    allow_nan: bool,
) -> Callable[[Any, int], tuple[str, ...]]: ...
def make_scanner(context: object) -> Callable[[str, int], tuple[Any, int]]: ...
