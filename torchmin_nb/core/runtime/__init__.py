"""A run's process: stop requests and budgets, worker threads, BLAS threads, memory."""
