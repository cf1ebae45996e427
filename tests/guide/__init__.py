"""The guide's app, driven from outside: every test name has its line of the checklist."""
