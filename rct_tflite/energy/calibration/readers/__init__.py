"""What people measure with: one file a format, each giving a `Trace` or the rows of a table."""
