"""Processes: made, held, ended, and sent signals."""
