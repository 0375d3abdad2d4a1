"""What version 0.1 wrote, and what was written for it, in today's names and units."""
