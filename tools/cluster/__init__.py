"""The local cluster: an existing one, kind, or a bare single node on this machine.

Run it as ``python -m tools.cluster --help`` from the repository's root. README.md
beside this file says how the bare node works, and why it is built this way.
"""
