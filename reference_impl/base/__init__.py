"""What every business of the reference stands on: refusals, arguments, and a client's session on each store."""
