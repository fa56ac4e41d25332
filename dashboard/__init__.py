"""The Dash app: layout, figures, callbacks, pages, and the push to the browser."""
