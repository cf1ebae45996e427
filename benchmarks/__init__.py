"""What tidings costs, measured against the same work done without it.

python -m benchmarks [rest latency fanout slow matching subscriptions] [--quick] [--json FILE]

Servers are processes of their own; the client is this process. Figures are medians of rounds in
which tidings and its baseline take turns, so that a slow minute of the machine hits both.
"""
