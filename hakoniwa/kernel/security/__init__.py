"""Credentials and what a process may do."""
