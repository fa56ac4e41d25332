"""The one command line, and the supervisor of the local stack: the composition root."""
