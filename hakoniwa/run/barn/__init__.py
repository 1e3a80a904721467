"""The barn's process and its supervisors."""
