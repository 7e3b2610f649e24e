"""Object storage: which versions exist, and what is in them."""
