"""What a container is set up by: steps as data that say what they do and can be applied, one file per concern."""
