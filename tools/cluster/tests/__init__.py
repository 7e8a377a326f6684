"""Tests of the local cluster: pure ones for pytest, and ``acceptance`` on a real node."""
