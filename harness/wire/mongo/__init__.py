"""MongoDB's wire protocol.

frames      bytes to messages: OP_MSG with both kinds of section, and the legacy greeting
session     what client and server have said, one command a unit
commands    what a command is: fingerprint, kind, whether a driver says it by itself
greeting    hello and its reply, rewritten so that the driver stays at the proxy
blocking    who waits for whom, asked of the server
"""
