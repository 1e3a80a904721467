"""Archives of rootfs, which are not trusted: made and extracted by GNU tar."""
