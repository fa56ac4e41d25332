"""Thin bridges to training libraries; each module imports its library, and only that."""
