"""What is in front of a classifier's pooling: from strips to features along them."""
