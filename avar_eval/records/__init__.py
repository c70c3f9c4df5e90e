"""What a run keeps of each response, and the file that keeps it."""
