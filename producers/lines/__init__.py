"""One line in, one record or dead letter out. Pure."""
