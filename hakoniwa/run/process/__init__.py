"""A process on its way to its program, for start and exec alike."""
