"""`python -m hakoniwa`."""

from hakoniwa.cli import main

main()
