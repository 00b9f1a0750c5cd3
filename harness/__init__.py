"""The machine: fires concurrent operations at a target on a real store and says what broke.

Words, used for one thing each throughout:

store      a real PostgreSQL or MongoDB server: embedded, container or a URL
database   one isolated place on a store that a run works in
target     the system under test: named operations on a store
variant    one way of implementing the same operations
operation  one business request: a name, its arguments and a client token unique to the intent
outcome    ok it happened, fail it definitely did not, info nobody knows
history    every operation's invocation and completion on one monotonic clock
books      what the store holds afterwards, as canonical tables
policy     what the business demands of its numbers
invariant  a pure function of history, books and policy to findings
finding    one thing that is wrong, with evidence
verdict    pass, fail or unknown
scenario   what concurrent clients do, and which invariants must hold afterwards
engine     who decides the order: stress, explore, load
schedule   the order in which clients were let through
fault      something done on purpose, at a named point
run        one execution, recorded in a folder of its own
"""
