-- all orgs: accounts of users, keys and runs whose period is over everywhere.
DELETE FROM dataplane.spend_roll
 WHERE kind IN ('user', 'key', 'run') AND period_end_unix <= %(ended_before_unix)s
