"""Calling a system under test: a Python object or an HTTP service, its errors classified and its books read."""
