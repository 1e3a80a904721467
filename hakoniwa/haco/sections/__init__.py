"""The sections of `config`, one file each."""
