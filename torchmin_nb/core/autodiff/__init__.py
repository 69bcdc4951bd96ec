"""What one closure call yields, its derivatives, and whether they are right."""
