"""Time on a page: where a viewer stands in a run, what was there, and how he moves."""
