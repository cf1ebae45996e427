"""`@tidings/client`, driven in Node and Chromium against a real server."""
