"""What is kept: files written whole, records whose fields may be renamed, modules that have moved."""
