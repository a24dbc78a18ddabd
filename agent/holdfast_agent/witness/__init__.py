"""The agent's side of the witness: records on every volume that claims to be durable, and what is read back of them.

`core.chain`, `core.chain_reading` and `core.chain_writer` are the protocol, without any I/O. Here are the file
(`ring_file_linux`), one thread per volume that keeps it (`volume_keeper`), the choice of volumes (`witness_choice`)
and the part of the event loop that holds it together (`witnessing`).
"""
