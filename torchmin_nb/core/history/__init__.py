"""What a run leaves: its records, the History that keeps them, and the callbacks that hear of them."""
