"""Proxies that hold, release and break what an application says to its store.

frames    bytes to messages: a message, "need more", or an error (one module a protocol, no I/O)
session   what the two ends of a connection have said so far, as a state table (one module a protocol, no I/O)
gate      what is done with the next step: forward, hold, drop, close (pure)
server    the only asyncio: carries out what the three above say
base      what the proxy tells whoever decides the order, and what it can be told to do
step      one round trip that can be held as a whole
held      by the gate: the step has not reached the store
blocked   by the store: the step was released and waits for another client's lock; asked of the store
tunnelled passed on unread, because it was not understood; said so in an event
"""
