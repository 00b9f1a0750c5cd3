"""Writing a history while it happens, and reading it back.

`recorder` appends events from one process, `loader` merges the files of all processes, `format` is the file format
that both agree on (described in docs/history-format.md).
"""
