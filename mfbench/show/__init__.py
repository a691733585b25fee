"""What people look at: styles, tables, plots, text and pages. Reads results, never trains."""
