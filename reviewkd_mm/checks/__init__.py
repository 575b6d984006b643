"""What can be found out about a config before a training."""
