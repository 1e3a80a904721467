"""What joins a container to others: bridges, addresses, packet filters, names. What a container is, and who lives, is not known here."""
