"""What a run folder holds, and what a report says."""
