"""What the tests share: real servers, and an unmodified JavaScript client."""
