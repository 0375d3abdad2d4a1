"""The local page: a queue of jobs on disk, the thread that runs them, and the page that shows them."""
