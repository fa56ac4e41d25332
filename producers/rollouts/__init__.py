"""Rollouts of language models: files that trainers write, read as they are written."""
