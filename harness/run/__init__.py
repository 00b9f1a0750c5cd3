"""The one place that runs a scenario from start to verdict, and keeps what it found in a run folder."""
