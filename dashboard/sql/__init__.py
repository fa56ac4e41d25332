"""What the pages read from SQL: asynchronous, bounded, with a time limit."""
