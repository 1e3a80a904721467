"""Seccomp filters: the profile, what a file adds, profiles in Docker's format, and programs made of them once."""
