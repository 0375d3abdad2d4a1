"""What turns the prior's opinion of rendered images into a gradient (seed 3.2, 3.3, A.4)."""
