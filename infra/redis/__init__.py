"""Redis: clients, and the live buffer's commands."""
