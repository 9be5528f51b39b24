"""What tasks.py calls, and what it prints."""
