"""What a start does before the program runs."""
