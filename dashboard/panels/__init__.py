"""The product's own panels, one a file."""
