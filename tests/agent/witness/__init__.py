"""The witness on real filesystems."""
