"""What must hold of a value, and between settings."""
