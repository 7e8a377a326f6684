"""Each line of defence taken away, one at a time: a test of behaviour must miss it."""
