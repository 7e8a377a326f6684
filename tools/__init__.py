"""Developer tools: the local cluster, and the Go modules it is built from."""
