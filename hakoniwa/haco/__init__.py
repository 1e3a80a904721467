"""What a container file may say: mutable builders that check each value where it is written."""
