-- all orgs: what an operator is told about the shipper.
-- Bounded, as it is asked for at each pass.
SELECT count(*) AS refused
  FROM (SELECT FROM dataplane.shipping_refused LIMIT %(limit)s) AS counted
