"""The process that a run lives in: stop requests and budgets, worker threads, BLAS threads, memory."""
