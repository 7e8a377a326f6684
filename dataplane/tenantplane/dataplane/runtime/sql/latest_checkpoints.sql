SELECT * FROM dataplane.latest_checkpoints(%(wanted)s::json, %(most_bytes)s)
