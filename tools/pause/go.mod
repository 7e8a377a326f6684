module tenantplane.local/tools/pause

go 1.26
