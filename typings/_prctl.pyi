PR_SET_PDEATHSIG: int
PR_SET_NO_NEW_PRIVS: int
PR_SET_DUMPABLE: int
PR_SET_CHILD_SUBREAPER: int
PR_SET_NAME: int

def prctl(option: int, argument: int | str, /) -> int | None: ...
