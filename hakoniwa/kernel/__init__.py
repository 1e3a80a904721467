"""Thin typed wrappers around what the kernel offers, one file a facility. No policy here."""
