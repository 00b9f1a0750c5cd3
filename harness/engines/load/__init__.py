"""The load engine: Locust users over time.

Locust patches the sockets and threads of its whole process when it is imported, so it lives in processes of its own, which
`engine` starts and watches from a clean one. Only the modules that run there import it.

plan        what a load run is asked to do: a value that travels to the processes
engine      the parent's side: starts the processes, hears them, ends them, says what became of them
channel     how the two sides talk
process     the other side: Locust's runner, local, master or worker
user        a Locust user: one client of the scenario
arrival     a Locust user that stands for all clients of an open model
site        what all users of a process share: seats, history file, measurements
measures    latencies, counts and the generator's own state
console     Locust's page with ours in it
panel       the tabs of it that are ours
locustfile  the same users under Locust's own command line
hosts       the master's side of its workers, wherever they are
handover    a worker's side: takes the plan, tells the time, hands over what it recorded
clocks      how far the clock of another host is from ours
drivers     refuses database drivers that would freeze the process
"""
