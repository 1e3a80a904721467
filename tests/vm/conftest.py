"""Run inside the virtual machine that tests/vm/run boots; every test is looked at for what it leaves."""

from tests.leaks import no_leaks

__all__ = ["no_leaks"]
