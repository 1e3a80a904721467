"""hakoniwa for Python programs: boxes, without a fork of the program."""
