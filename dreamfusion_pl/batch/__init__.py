"""Batches of prompts: jobs on disk, a worker that runs a job, and Ray to schedule them."""
