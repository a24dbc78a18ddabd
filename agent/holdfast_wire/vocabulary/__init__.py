"""The words, one file per kind of resource: its facts, and the events that happen to it."""
