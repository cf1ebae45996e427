"""The proof of the filters: in SQL, on each database, and in Python they mean the same.

`python -m tests.proof` (or `make prove`) proves at length what the tests here prove in short.
"""
