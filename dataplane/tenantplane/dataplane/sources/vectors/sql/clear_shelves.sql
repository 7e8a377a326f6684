SELECT dataplane.clear_shelves() AS cleared
