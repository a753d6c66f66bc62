"""What commands print: progress, tables, sentences."""
