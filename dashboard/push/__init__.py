"""The push to the browser: one WebSocket a page, one delta in flight."""
