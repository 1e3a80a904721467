"""A file that is read again."""
