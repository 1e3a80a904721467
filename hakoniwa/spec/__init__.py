"""What a container is: records, and the rules that they keep."""
