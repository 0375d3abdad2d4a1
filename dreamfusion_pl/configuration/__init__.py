"""Which configuration files a command reads, and names of earlier versions."""
