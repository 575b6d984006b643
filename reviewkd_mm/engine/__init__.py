"""What the Runner needs besides models and data: hooks and optimizer wrappers."""
