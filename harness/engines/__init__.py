"""Who decides the order in which clients act: stress (full speed), explore (chosen), load (users over time)."""
