"""Many prompts: jobs on disk, a worker for one of them, Ray for all."""
