"""What a process is made before its program is executed, and the program."""
