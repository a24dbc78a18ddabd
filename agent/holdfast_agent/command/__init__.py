"""What a person at the machine can ask the agent: one module per verb, imported when it is chosen.

`once` (over `glance`, `glance_table`, `glance_check`), `doctor`, `connection_test`, `record`.
"""
