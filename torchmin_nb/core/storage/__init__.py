"""Storage: atomic file writes, records with renamed fields, modules that have moved."""
