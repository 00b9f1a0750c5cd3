"""PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2.

frames      bytes to messages
session     what client and server have said, and where that leaves the connection
units       what a client's messages make together: what is held as a whole
statements  what an SQL text is, as far as its tokens tell: fingerprint, kind, housekeeping
values      parameters and results as Python values, for showing
blocking    who waits for whom, asked of the server
"""
