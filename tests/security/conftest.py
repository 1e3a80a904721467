"""Every test here is looked at for what it leaves on the host."""

from tests.leaks import no_leaks

__all__ = ["no_leaks"]
