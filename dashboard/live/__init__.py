"""Reading Redis: what is new, on top of what SQL holds."""
