"""What people look at: pictures, tables, progress bars, the report."""
