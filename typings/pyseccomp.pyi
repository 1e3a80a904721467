from typing import Any

class Arch:
    NATIVE: int

class Attr:
    ACT_BADARCH: int
    CTL_OPTIMIZE: int

def __getattr__(name: str) -> Any: ...
