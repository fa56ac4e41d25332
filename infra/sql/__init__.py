"""SQL: engines, the writers of event rows, migrations, and what is read back."""
