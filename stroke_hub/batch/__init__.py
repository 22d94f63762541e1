"""Any number of files -> a table of predictions."""
