"""All batches of a data set as one deterministic closure, in bounded memory."""
