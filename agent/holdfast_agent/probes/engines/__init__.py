"""Where each known database and broker keeps its files, by its arguments, environment and configuration files.

One file per engine, each pure: it is given a process and a way to look at files as that process sees them. `ENGINES`
in `known.py` is the list.
"""
