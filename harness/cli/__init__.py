"""The command line: one file a command, all options that mean the same in `options`, one way out in `main`."""
