"""A worker as a child process: its output, its end and its host."""
