"""The result of a closure call, its derivatives, and checks of both."""
