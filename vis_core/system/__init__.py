"""What a system is: the interface that users hold, the driver behind it, and what a system gives."""
