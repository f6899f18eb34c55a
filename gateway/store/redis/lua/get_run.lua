-- Returns the fields of a run.
return row(ARGV[1])
