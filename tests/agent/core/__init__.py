"""The agent's pure decisions, in virtual time."""
