"""Execute what a command needs from one file, without the import system."""
