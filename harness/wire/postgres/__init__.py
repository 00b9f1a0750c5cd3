"""PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2.

frames      bytes to messages
session     what client and server have said, cut into units that can be held
statements  what an SQL text is, as far as its tokens tell: fingerprint, kind, housekeeping
values      parameters and results as Python values, for showing
blocking    who waits for whom, asked of the server
"""
