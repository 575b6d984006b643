"""Files: written wholly or not at all, and read without running code in them."""
